// Package tpm parses and verifies what a TPM 2.0 signs. It decides whether
// bytes are genuine and never whether they are good: that is package policy.
//
// Invariants: every structure is capped before it is parsed, trailing bytes are
// refused, and a key is only accepted with the attributes that make it what it
// claims to be. No function here touches a device.
package tpm
