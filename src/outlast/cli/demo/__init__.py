"""The demo: an agent reads real files, its process is killed again and again: nothing is lost."""
