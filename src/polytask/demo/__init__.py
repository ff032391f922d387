"""The demo: three real tasks on one frozen backbone, trained one after the other."""
