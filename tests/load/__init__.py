"""The load test: uvicorn with two workers under a mix of people and crawlers.

python -m tests.load [--seconds 60]
"""
