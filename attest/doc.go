// Package attest holds the nouns of attestation: evidence, the channel it is
// bound to, and the appraisal that judges it.
//
// Invariants: the package and everything below it, but for channel, attester and client,
// is pure: no clock, no randomness and no network that the caller did not pass
// in. Bytes from outside are capped before they are parsed, an unknown version
// or kind is refused, and whatever is not established is said to be "none",
// never assumed.
package attest
