"""What is taken away: a merged model with its card, an archive of a record, and a record from another machine."""
