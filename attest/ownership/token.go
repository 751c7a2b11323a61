package ownership

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
)

// Scheme is the name of a token's HTTP authentication scheme (RFC 9110,
// section 11.1).
const Scheme = "Shed-Owner"

// Token is the value of the Authorization header for one connection: the
// owner's signature over the machine's key and the connection's exporter. On
// any other connection, or to any other machine, it is worthless.
func Token(owner ed25519.PrivateKey, ch attest.Channel) string {
	return Scheme + " " + base64.RawURLEncoding.EncodeToString(ed25519.Sign(owner, tokenMessage(ch)))
}

// CheckToken verifies an Authorization header on the connection ch. Errors are
// attest.ErrSignature.
func CheckToken(owner ed25519.PublicKey, header string, ch attest.Channel) error {
	encoded, ok := strings.CutPrefix(header, Scheme+" ")
	if !ok || len(encoded) != base64.RawURLEncoding.EncodedLen(ed25519.SignatureSize) {
		return fmt.Errorf("%w: authorization is no %s token", attest.ErrSignature, Scheme)
	}
	signature, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || !ed25519.Verify(owner, tokenMessage(ch), signature) {
		return fmt.Errorf("%w: token is not the owner's for this connection", attest.ErrSignature)
	}
	return nil
}

func tokenMessage(ch attest.Channel) []byte {
	spki := attest.Sum(ch.SPKI)
	return tagged(attest.TagToken, append(spki[:], ch.Exporter[:]...))
}
