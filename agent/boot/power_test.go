package boot

import (
	"encoding/binary"
	"testing"
)

func event(kind, code uint16, value uint32) []byte {
	b := make([]byte, inputEventBytes)
	binary.LittleEndian.PutUint16(b[16:], kind)
	binary.LittleEndian.PutUint16(b[18:], code)
	binary.LittleEndian.PutUint32(b[20:], value)
	return b
}

func TestPowerPress(t *testing.T) {
	sync, press, release := event(0, 0, 0), event(eventKey, keyPower, 1), event(eventKey, keyPower, 0)
	for name, c := range map[string]struct {
		events []byte
		want   bool
	}{
		"nothing":     {nil, false},
		"a press":     {press, true},
		"after other": {append(append([]byte{}, sync...), press...), true},
		"a release":   {release, false},
		"other key":   {event(eventKey, 30, 1), false},
		"half a one":  {press[:20], false},
	} {
		if got := hasPowerPress(c.events); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
