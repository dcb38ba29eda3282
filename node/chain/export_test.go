package chain

// MaxHeld is maxHeld for tests.
const MaxHeld = maxHeld
