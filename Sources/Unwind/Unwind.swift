// Unwind
