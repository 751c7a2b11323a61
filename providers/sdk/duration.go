package sdk

import "time"

// Duration is one in a provider's settings, written as Go writes durations.
type Duration time.Duration

// UnmarshalText reads one, such as "10s".
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }
