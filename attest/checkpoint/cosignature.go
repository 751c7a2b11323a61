package checkpoint

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
)

// lastSecond is the end of the year 9999: what is later is no time of a witness.
const lastSecond = 253402300799

// cosigned is what a witness signs: that at this time, in seconds since 1970,
// this was the largest tree it had seen of the log (C2SP tlog-cosignature,
// "Ed25519 signed message").
func cosigned(text []byte, at uint64) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), text...)
}

// splitCosignature takes the timestamp, a big-endian uint64, off a signature.
func splitCosignature(b []byte) (at uint64, signature []byte, ok bool) {
	if len(b) != 8+ed25519.SignatureSize {
		return 0, nil, false
	}
	at = binary.BigEndian.Uint64(b)
	return at, b[8:], at <= lastSecond
}

func joinCosignature(at uint64, signature []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, at), signature...)
}
