"""The load tests: a server with two workers under people and crawlers, and under the attackers that each signature is made for.

python -m tests.load [--seconds 60] [--only NAME] [--server gunicorn]
"""
