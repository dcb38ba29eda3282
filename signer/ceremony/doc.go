// Package ceremony makes the keys of a network in front of witnesses. One
// reviewed file, the Script, says what happens; Steps turns it into numbered steps
// with a role each; a Ceremony carries them out on tokens and writes a hash-chained
// transcript, which is also its only state: a ceremony that was interrupted goes on
// at the step where it stopped. Verify replays a transcript without any token.
//
// The single parts serve `qcity key` too: NewToken and NewKey, Record, Attest,
// Prove, SealSoftHSM and RestoreSoftHSM.
//
// It asks persons and reads PINs through functions it is given, prints nothing by
// itself, and never has a PIN in a transcript, an argument or the environment.
package ceremony
