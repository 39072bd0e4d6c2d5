"""How rare words are among instructions: counted from prompts, kept in a table, and two tables that come with it."""
