"""How well the analyzer tells people from machines, on real logs: the masked test. ``python -m tests.eval`` prints it.

Nobody knows for sure who wrote the lines of a real log. But many crawlers say who they are. So:

1. A log is read by the analyzer's own parser. An address most of whose requests name a crawler of the catalogue (an AI, search, SEO,
   archive, advertising or security crawler, or a link preview: CRAWLERS) is a **crawler**.
2. All its User-Agents are replaced by those of browsers that are common in the same log (``masking.MODES``: one for all, one for each
   address, one for each agent, another one at each request). Nothing else changes: addresses, paths, times, referrers and answers are
   real.
3. The masked rows go through the real rollup and ``clients.clients``, with the bundled catalogue and no other database.
4. **Recall**: the masked crawlers' requests whose client is called anything but a person or unknown, out of all masked requests.
5. **People**: addresses that only ever send a browser's User-Agent, load styles or scripts, and have a referrer on a document. Nothing
   in it asks for an address or a class. Who of them is called a machine is **wrongly accused**. The real logs hold some crawlers that
   do all that (headless browsers, brute force through Tor), so the figure is an upper bound; ``--show`` prints their traces.
   As a wider bound, ``likely`` are those that load any asset or send any referrer; most of those accused there are scanners that send
   invented referrers, as their traces show.

Three more rows say what the figures rest on: *no networks* takes the catalogue's networks away, *no addresses* makes every address a
word of its own, so that neither networks nor subnets can help, and *shaken* multiplies each number of points in weights.yaml by
a random factor between 0.7 and 1.3, 20 times, and shows the worst: a table of points that only fits these logs would not stand that.

The curve shows both figures for each threshold of the score.

**What the figures are not.** They are in-sample: the features, their cuts, the points and the rules of swarms were chosen by reading the errors
on these very three logs, so on them the table says how well the analyzer fits, not how well it will do elsewhere. *Shaken* is no substitute: it
starts from the same table. So each log is also judged by points that were fitted without it, by a formula, on the others (see ``heldout``): the
rows *held out*. The cuts and the rules of swarms stay as they are, so even these are a little too good; a log that nobody has looked at is the only
judge of those. They come in pairs, because who is a person is not known either: fitted by those that are surely people (styles and referrers),
points find as many crawlers as the table in force, but accuse up to a fifth of the *likely* ones; fitted by the likely ones, they accuse none of the
sure ones, and find 85% to 90% of the masked requests on two logs and 63% on shop, a third of whose masked requests are one crawler that sends referrers,
fetches a page at a time and loads some images.
"""
