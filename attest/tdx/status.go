package tdx

import (
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// Status is how Intel rates a platform's versions (Intel PCS API v4, "TCB
// Status").
type Status uint8

// The statuses. The zero value is none of Intel's and no policy accepts it.
const (
	StatusUnset Status = iota
	UpToDate
	SWHardeningNeeded
	ConfigurationNeeded
	ConfigurationAndSWHardeningNeeded
	OutOfDate
	OutOfDateConfigurationNeeded
	Revoked
)

var statusNames = [...]string{
	"unset", "UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded",
	"OutOfDate", "OutOfDateConfigurationNeeded", "Revoked",
}

func (s Status) String() string {
	if int(s) >= len(statusNames) {
		return fmt.Sprintf("status(%d)", uint8(s))
	}
	return statusNames[s]
}

// MarshalText writes Intel's word for s.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads one of Intel's words. The error is attest.ErrMalformed.
func (s *Status) UnmarshalText(text []byte) error {
	for i, name := range statusNames[1:] {
		if name == string(text) {
			*s = Status(i + 1)
			return nil
		}
	}
	return fmt.Errorf("%w: tcb status %.40q is unknown", attest.ErrMalformed, text)
}

// with is the status of a platform that has a part (its TDX module, its quoting
// enclave) of the given status: the worse of the two, where a platform that
// lacks configuration goes on lacking it.
func (s Status) with(part Status) Status {
	switch {
	case s == Revoked || part == Revoked:
		return Revoked
	case part == UpToDate:
		return s
	case s == UpToDate || s == SWHardeningNeeded || s == OutOfDate:
		return OutOfDate
	}
	return OutOfDateConfigurationNeeded
}
