// Package api is the agent's wire: the configuration a machine is born with
// and the messages of enrolment.
//
// Invariants: it holds types and their strict codecs only. Every decoder caps
// its input, refuses unknown fields and versions, and re-encodes to the same
// bytes, because digests are taken over them.
package api

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// ConfigVersion is the only configuration version the agent reads.
const ConfigVersion = 2

// MaxConfigBytes caps an encoded configuration. EC2 instance user data, the
// narrowest channel that carries it, holds 16 KiB.
const MaxConfigBytes = 4 << 10

// ErrConfig says that a configuration is not one the agent may use.
var ErrConfig = errors.New("invalid machine configuration")

// Config is all that a machine is told from outside. It has no freedom that
// matters for security: it names who to report to, and is itself measured
// into PCR 14 before it is used.
type Config struct {
	Version uint64 `cbor:"1,keyasint"`
	// Machine is the machine's id, 26 characters of lowercase base32.
	Machine string `cbor:"2,keyasint"`
	// ControlPlane is the host:port that the agent dials.
	ControlPlane string `cbor:"3,keyasint"`
	// ControlPlaneSPKI is the SHA-256 of the control plane's
	// SubjectPublicKeyInfo; nothing else authenticates it.
	ControlPlaneSPKI [32]byte `cbor:"4,keyasint"`
	// TokenHash is the SHA-256 of the enrolment token, which stands beside the
	// configuration and not in it: the token is a secret, and this is measured
	// and may be shown.
	TokenHash attest.Digest `cbor:"5,keyasint"`
}

// Token is the enrolment secret of one machine. It is good until the machine
// has enrolled once; from then on its endorsement key speaks for it.
type Token [32]byte

// Hash is what a Config says of the token.
func (t Token) Hash() attest.Digest { return attest.Sum(t[:]) }

// Encode returns the configuration's deterministic CBOR (RFC 8949, section
// 4.2.1). The error is ErrConfig.
func (c Config) Encode() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	b, err := canon.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encoding machine configuration: %w", err)
	}
	if len(b) > MaxConfigBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrConfig, len(b), MaxConfigBytes)
	}
	return b, nil
}

// DecodeConfig reads what Encode wrote and nothing else. The error is
// ErrConfig.
func DecodeConfig(b []byte) (Config, error) {
	var c Config
	if err := canon.Unmarshal("configuration", b, MaxConfigBytes, &c); err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return c, c.check()
}

func (c Config) check() error {
	switch {
	case c.Version != ConfigVersion:
		return fmt.Errorf("%w: version %d, want %d", ErrConfig, c.Version, ConfigVersion)
	case len(c.Machine) != 26:
		return fmt.Errorf("%w: machine has %d characters, want 26", ErrConfig, len(c.Machine))
	case len(c.ControlPlane) == 0 || len(c.ControlPlane) > 260:
		return fmt.Errorf("%w: control_plane has %d characters, want 1 to 260", ErrConfig, len(c.ControlPlane))
	}
	return nil
}

// driveMagic starts a config drive: a raw disk with no file system, so that
// the agent parses nothing before it measures.
var driveMagic = [8]byte{'S', 'H', 'E', 'D', 'C', 'F', 'G', '2'}

// DriveSector is the unit that a config drive is padded to.
const DriveSector = 512

const driveHead = len(driveMagic) + len(Token{}) + 4

// MaxDriveBytes caps a config drive.
const MaxDriveBytes = (driveHead + MaxConfigBytes + DriveSector - 1) / DriveSector * DriveSector

// EncodeDrive lays an encoded configuration and its token out as a config
// drive: magic, token, length as a big-endian uint32, the configuration, zeros
// up to a sector. The error is ErrConfig.
func EncodeDrive(config []byte, token Token) ([]byte, error) {
	if len(config) == 0 || len(config) > MaxConfigBytes {
		return nil, fmt.Errorf("%w: %d bytes, want 1 to %d", ErrConfig, len(config), MaxConfigBytes)
	}
	b := append(append([]byte{}, driveMagic[:]...), token[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(config)))
	b = append(b, config...)
	if rest := len(b) % DriveSector; rest != 0 {
		b = append(b, make([]byte, DriveSector-rest)...)
	}
	return b, nil
}

// DecodeDrive returns the encoded configuration that a config drive holds, and
// the token beside it. The error is ErrConfig.
func DecodeDrive(b []byte) (config []byte, token Token, err error) {
	if len(b) < driveHead || !bytes.Equal(b[:len(driveMagic)], driveMagic[:]) {
		return nil, token, fmt.Errorf("%w: config drive has no magic", ErrConfig)
	}
	token = Token(b[len(driveMagic) : driveHead-4])
	n := binary.BigEndian.Uint32(b[driveHead-4:])
	if n == 0 || n > MaxConfigBytes || int(n) > len(b)-driveHead {
		return nil, token, fmt.Errorf("%w: config drive claims %d bytes", ErrConfig, n)
	}
	return b[driveHead : driveHead+int(n)], token, nil
}
