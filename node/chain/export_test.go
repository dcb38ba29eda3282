package chain

// MaxHeld is maxHeld for tests.
const MaxHeld = maxHeld

// VerifyAhead is verifyAhead.
var VerifyAhead = verifyAhead
