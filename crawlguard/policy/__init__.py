"""The policy: its shape (``schema``), its compilation (``compile``) and what comes out of it (``ruleset``)."""
