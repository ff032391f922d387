"""The dialects: thin routes over ``Service.ask``. Each is one file and one router."""
