// Package audit is the signer's audit log: what was asked of it, by whom, and
// what it did, in files that only grow and in which every entry is bound to all
// before it by a hash. docs/audit.md describes the format byte for byte and says
// what it proves.
//
// What it promises, and the tests that check it:
//
//   - An entry that Append has acknowledged is there after any crash, in its place;
//     one that it has not is there or not, and the log opens again
//     (TestFaultAtEveryCall, TestPowerCuts, TestCreateInterrupted).
//   - A flipped bit anywhere in the files is found, at the record it is in
//     (TestEveryFlippedBit), as are records and files that were removed, swapped,
//     doubled or replaced (TestEveryFlippedBitWithRightChecksums,
//     TestRecordsMoved, TestFilesMoved).
//   - The chain cannot show what was cut off its end, nor a last record that was
//     replaced. A head that somebody else holds shows both, and signed blocks carry
//     heads (TestTruncation, TestAnchors).
//   - A log that is missing or damaged is not opened for writing and never made anew
//     by itself (TestOpenRefuses).
//   - An export is verified without the files, and by a program that shares nothing
//     with this one (TestExportTampered, TestVerifiedElsewhere).
package audit
