"""All that training remembers at one step, by which an interrupted run goes on."""
