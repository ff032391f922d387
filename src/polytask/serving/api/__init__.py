"""The HTTP dialects: thin routes over ``Service.answer``, one router in one file each."""
