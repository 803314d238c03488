"""OpenAI's Files and Batch APIs: the lines of a file become jobs, their answers become files."""
