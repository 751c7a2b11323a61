package attest

// The registers that our own measured code extends.
const (
	// RegisterConfig holds the machine's configuration.
	RegisterConfig = 14
	// RegisterClaim holds the claim, or the mark that there is none.
	RegisterClaim = 15
)

// Registers are the SHA-256 bank's values by register number. Those that no
// quote covers are zero and say nothing.
type Registers [24]Digest

// SealedRegisters are the registers that the data key is sealed to, ascending,
// besides the claim's, which must still be zero: the image and all that ran before
// and beside it (design promise 11). Register 9 follows from 11 and 12. The
// firmware's own, 0 and 1, join them where the release fixes the firmware.
func SealedRegisters(firmware bool) []uint8 {
	registers := []uint8{2, 4, 7, 11, 12, 13}
	if firmware {
		registers = append([]uint8{0, 1}, registers...)
	}
	return registers
}

// SealDigest is the SHA-256 over the sealed registers' values, as a TPM says it of
// a key's making (TPMS_CREATION_DATA.pcrDigest, TPM 2.0 Part 2, section 15.1): it
// names a release on a machine.
func (r Registers) SealDigest(firmware bool) Digest {
	var values []byte
	for _, n := range SealedRegisters(firmware) {
		values = append(values, r[n][:]...)
	}
	return Sum(values)
}

// ConfigDigest is what the agent extends into RegisterConfig before it uses
// the configuration.
func ConfigDigest(config []byte) Digest {
	return Sum(append([]byte(TagConfig+"\x00"), config...))
}

// Unclaimed is what the agent extends into RegisterClaim where there is no
// claim: the register is never left at zero once the network is up, because
// zero is what the data key is sealed to.
func Unclaimed() Digest { return unclaimed }

// unclaimed is what an unclaimed machine measures, unclaimedRegister what it
// then shows.
var (
	unclaimed         = Sum([]byte(TagClaim + "\x00unclaimed"))
	unclaimedRegister = Extend(Digest{}, unclaimed)
)

// Extend folds a digest into a register (TPM 2.0 Part 1, section 17.2).
func Extend(register, digest Digest) Digest {
	return Sum(append(register[:], digest[:]...))
}

// IsClaimRegister reports whether RegisterClaim may hold the value: on an
// unclaimed machine one does; on a claimed one two, claimed before this boot or
// during it.
func IsClaimRegister(register, claim Digest) bool {
	if claim.IsZero() {
		return register == unclaimedRegister
	}
	return register == Extend(Digest{}, claim) || register == Extend(unclaimedRegister, claim)
}

// SeparatorRegister is a register that firmware closed with EV_SEPARATOR(0)
// and nothing else (TCG PC Client Platform Firmware Profile 1.06, section
// 3.3.4).
func SeparatorRegister() Digest { return Extend(Digest{}, Sum([]byte{0, 0, 0, 0})) }
