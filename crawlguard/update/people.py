"""User-Agents of people, one of each kind of browser and app: what no pattern of a fetched catalogue may hit. Written for this purpose."""

from __future__ import annotations

_KIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_WIN = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
_X11 = "Mozilla/5.0 (X11; Linux x86_64)"
_PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
_DROID = "Mozilla/5.0 (Linux; Android 15; Pixel 9 Pro)"

PEOPLE = (
    # desktop browsers
    f"{_WIN} {_KIT} Chrome/143.0.0.0 Safari/537.36",
    f"{_WIN} {_KIT} Chrome/143.0.0.0 Safari/537.36 Edg/143.0.0.0",
    f"{_WIN} {_KIT} Chrome/142.0.0.0 Safari/537.36 OPR/126.0.0.0",
    f"{_WIN} {_KIT} Chrome/140.0.0.0 YaBrowser/25.10.0.0 Safari/537.36",
    f"{_X11} {_KIT} Chrome/143.0.0.0 Safari/537.36 Vivaldi/7.7",
    f"{_X11} {_KIT} Chromium/143.0.0.0 Chrome/143.0.0.0 Safari/537.36",
    f"{_MAC} {_KIT} Chrome/143.0.0.0 Safari/537.36 DuckDuckGo/7",
    f"{_MAC} AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:102.0) Gecko/20100101 Goanna/6.8 PaleMoon/33.9.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:91.0) Gecko/20100101 Firefox/91.0 SeaMonkey/2.53.21",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/538.1 (KHTML, like Gecko) Falkon/25.08 Safari/538.1",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15 Epiphany/48.0",
    "Mozilla/5.0 (compatible; Konqueror/5.0; Linux) KHTML/5.116.0 (like Gecko)",
    "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
    "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0)",
    # browsers of text, and small ones
    "Lynx/2.9.2 libwww-FM/2.14 SSL-MM/1.4.1 OpenSSL/3.5.0",
    "w3m/0.5.3+git20230121",
    "Links (2.30; Linux 6.12 x86_64; GNU C 14.2; text)",
    "ELinks/0.18.0 (textmode; Linux 6.12 x86_64; 120x40-2)",
    "Dillo/3.2.0",
    "NetSurf/3.11 (Linux x86_64)",
    "Mozilla/5.0 (X11; Linux x86_64) Ladybird/1.0",
    # phones, tablets and other screens
    f"{_DROID} {_KIT} Chrome/143.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/29.0 Chrome/136.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Android 15; Mobile; rv:145.0) Gecko/145.0 Firefox/145.0",
    f"{_PHONE} Version/18.5 Mobile/15E148 Safari/604.1",
    f"{_PHONE} CriOS/143.0.7499.40 Mobile/15E148 Safari/604.1",
    f"{_PHONE} FxiOS/145.0 Mobile/15E148 Safari/605.1.15",
    f"{_PHONE} EdgiOS/143.0.0.0 Version/18.0 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; U; Android 13; en-US; Redmi Note 12) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/123.0.0.0 UCBrowser/15.5 Mobile Safari/537.36",
    "Opera/9.80 (Android; Opera Mini/88.0.2254/191.353; U; en) Presto/2.12.423 Version/12.16",
    "Mozilla/5.0 (Linux; Android 11; KFTRWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/138.2 like Chrome/138.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 WebAppManager",
    "Mozilla/5.0 (PlayStation; PlayStation 5/10.00) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Safari/605.1.15",
    # pages opened inside apps
    f"{_PHONE} Mobile/15E148 [FBAN/FBIOS;FBAV/540.0.0.30.109;FBBV/800000000;FBDV/iPhone16,2;FBSN/iOS;FBSV/18.5]",
    f"{_PHONE} Mobile/15E148 Instagram 400.0.0.20.110 (iPhone16,2; iOS 18_5; de_DE; de; scale=3.00; 1290x2796)",
    f"{_PHONE} GSA/390.0.800000000 Mobile/15E148 Safari/604.1",
    f"{_PHONE} Mobile/15E148 Snapchat/13.60.0.45 (like Safari/8617.1.17, panda)",
    f"{_DROID} {_KIT} Version/4.0 Chrome/143.0.0.0 Mobile Safari/537.36 Line/15.18.0/IAB",
    f"{_DROID} {_KIT} Version/4.0 Chrome/134.0.0.0 Mobile Safari/537.36 MicroMessenger/8.0.60 NetType/WIFI Language/en",
    f"{_DROID} {_KIT} Version/4.0 Chrome/143.0.0.0 Mobile Safari/537.36 musical_ly_420 BytedanceWebview/d8a21c6",
    f"{_WIN} {_KIT} Teams/25290 Chrome/138.0.0.0 Electron/37.2 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.3.0",
)
