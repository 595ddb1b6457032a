"""Fresh lists and a fresh catalogue from the network, without trust in it: fetched safely, judged, and put in force whole or not at all."""
