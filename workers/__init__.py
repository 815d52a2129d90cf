"""Pure compute: arrays, texts and weights in, results out.

No Django, no Celery, no network (`tasks.py` alone is exempt).
"""
