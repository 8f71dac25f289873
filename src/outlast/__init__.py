"""Durable tasks for AI agents: an agent that outlasts its process."""
