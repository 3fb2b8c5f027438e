"""What holds for every test: hypothesis gives no test a deadline, since a busy machine is no fault of the code."""

from hypothesis import settings

settings.register_profile("tailkeep", deadline=None)
settings.load_profile("tailkeep")
