"""Property tests share two cores with everything else: a time limit per example would be luck."""

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
