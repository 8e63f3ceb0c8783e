"""All protocol knowledge, and the bridge to coroutines on top of it. See dev_notes.md."""
