// Initiator
