package api_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/agent/api"
)

func config() api.Config {
	return api.Config{
		Version: api.ConfigVersion, Machine: strings.Repeat("a", 26), ControlPlane: "10.0.2.2:7482",
		ControlPlaneSPKI: [32]byte{1}, TokenHash: api.Token{2}.Hash(),
	}
}

func TestConfigSurvivesTheDrive(t *testing.T) {
	encoded, err := config().Encode()
	if err != nil {
		t.Fatal(err)
	}
	drive, err := api.EncodeDrive(encoded, api.Token{2})
	if err != nil {
		t.Fatal(err)
	}
	if len(drive)%api.DriveSector != 0 {
		t.Errorf("a drive of %d bytes is no whole number of sectors", len(drive))
	}
	again, token, err := api.DecodeDrive(drive)
	if err != nil || !bytes.Equal(again, encoded) || token != (api.Token{2}) {
		t.Fatalf("drive holds %x beside %x, error %v", again, token, err)
	}
	if bytes.Contains(again, token[:]) {
		t.Error("the configuration, which is shown, holds the token")
	}
	if got, err := api.DecodeConfig(again); err != nil || got != config() {
		t.Errorf("configuration %+v, error %v", got, err)
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, change := range map[string]func(*api.Config){
		"version":       func(c *api.Config) { c.Version = 1 },
		"machine":       func(c *api.Config) { c.Machine = "short" },
		"control_plane": func(c *api.Config) { c.ControlPlane = "" },
	} {
		c := config()
		change(&c)
		if _, err := c.Encode(); !errors.Is(err, api.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, drive := range map[string][]byte{
		"empty":     {},
		"no magic":  make([]byte, 512),
		"no token":  []byte("SHEDCFG2"),
		"no length": []byte("SHEDCFG2" + strings.Repeat("t", 32)),
		"too long":  []byte("SHEDCFG2" + strings.Repeat("t", 32) + "\x00\x00\x00\x09\x01"),
		"too large": []byte("SHEDCFG2" + strings.Repeat("t", 32) + "\x00\x00\x10\x01" + strings.Repeat("c", api.MaxConfigBytes+1)),
		"nothing":   []byte("SHEDCFG2" + strings.Repeat("t", 32) + "\x00\x00\x00\x00\x01"),
	} {
		if _, _, err := api.DecodeDrive(drive); !errors.Is(err, api.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, size := range []int{0, api.MaxConfigBytes + 1} {
		if _, err := api.EncodeDrive(make([]byte, size), api.Token{}); !errors.Is(err, api.ErrConfig) {
			t.Errorf("a drive of %d bytes: %v", size, err)
		}
	}
}

func FuzzDecodeDrive(f *testing.F) {
	encoded, err := config().Encode()
	if err != nil {
		f.Fatal(err)
	}
	drive, err := api.EncodeDrive(encoded, api.Token{2})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(drive)
	f.Add(drive[:20])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		body, _, err := api.DecodeDrive(b)
		if err != nil {
			if !errors.Is(err, api.ErrConfig) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		c, err := api.DecodeConfig(body)
		if err != nil {
			if !errors.Is(err, api.ErrConfig) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		if again, err := c.Encode(); err != nil || !bytes.Equal(again, body) {
			t.Errorf("two encodings of one configuration decode: %v", err)
		}
	})
}
