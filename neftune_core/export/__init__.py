"""What is taken away: a merged model with its card, archives of records, a script for another machine, a report."""
