// Package attest holds the nouns of attestation: evidence, the channel it is
// bound to, and the appraisal that judges it.
//
// Invariants: nothing here or below does input or output of its own, or asks a
// clock or a source of randomness that the caller did not pass in, but for
// channel and connlimit (the network), attester (the TPM), client (both ends of
// what an owner keeps and asks), witness (the network and the disk) and
// statefile (the disk). Bytes from outside are capped before they are parsed, an unknown version
// or kind is refused, and whatever is not established is said to be "none",
// never assumed.
package attest
