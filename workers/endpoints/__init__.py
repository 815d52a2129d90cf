"""Scores from servers over HTTP: the only modules of workers/ that reach a network, and only where a config names one.

addresses   which addresses may be asked, and the environment variables that open private ones or hold keys
kinds       what each kind of server is sent, and where its answer has the number
template    JSON with places for prompt and response, and paths into an answer
client      concurrency, rate limit, retries with back-off
scorer      a Scorer over the client: good scores are kept, the others named
"""
