// Statefile
