"""Run directories as the pages need them: followed as they grow, shared, in bounded memory."""
