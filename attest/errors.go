package attest

import "errors"

// The sentinels of a refusal. Every error that the verifier returns is one of
// these, wrapped with the field that was wrong.
var (
	// ErrRefused is the root: the evidence does not prove what was asked.
	ErrRefused = errors.New("refused")
	// ErrMalformed says that bytes from outside do not parse or exceed a cap.
	ErrMalformed = refusal("malformed evidence")
	// ErrStale says that the evidence answers another nonce.
	ErrStale = refusal("stale evidence")
	// ErrBinding says that the evidence belongs to another connection or role.
	ErrBinding = refusal("evidence is bound to another connection")
	// ErrSignature says that a signature does not verify.
	ErrSignature = refusal("bad signature")
	// ErrRegisters says that a register differs from what the policy fixes.
	ErrRegisters = refusal("registers differ")
	// ErrIdentity says that the machine's key is not vouched for.
	ErrIdentity = refusal("machine identity is not established")
	// ErrRevoked says that whoever vouched for a key has taken it back.
	ErrRevoked = refusal("certificate is revoked")
	// ErrCollateral says that what must be known beside the evidence, such as a
	// revocation list, is missing or not of this time.
	ErrCollateral = refusal("collateral is missing or out of date")
	// ErrPlatform says that a genuine hardware report shows a platform that the
	// policy does not accept.
	ErrPlatform = refusal("platform is not accepted")
	// ErrRelease says that no accepted release matches.
	ErrRelease = refusal("release is not accepted")
	// ErrTransparency says that no accepted log and witnesses vouch for the
	// release as the policy wants it, or that the log withdrew it.
	ErrTransparency = refusal("transparency is not established")
	// ErrClaim says that the claim is absent, foreign or badly signed.
	ErrClaim = refusal("claim is not accepted")
	// ErrPolicy says that the policy itself is incomplete: an empty policy
	// rejects.
	ErrPolicy = refusal("policy is incomplete")
)

type refusalError struct{ text string }

func refusal(text string) error { return &refusalError{text: text} }

func (e *refusalError) Error() string { return e.text }

// Unwrap makes every refusal match ErrRefused.
func (e *refusalError) Unwrap() error { return ErrRefused }
