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
		ControlPlaneSPKI: [32]byte{1}, Token: [32]byte{2},
	}
}

func TestConfigSurvivesTheDrive(t *testing.T) {
	encoded, err := config().Encode()
	if err != nil {
		t.Fatal(err)
	}
	drive, err := api.EncodeDrive(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if len(drive)%api.DriveSector != 0 {
		t.Errorf("a drive of %d bytes is no whole number of sectors", len(drive))
	}
	again, err := api.DecodeDrive(drive)
	if err != nil || !bytes.Equal(again, encoded) {
		t.Fatalf("drive holds %x, error %v", again, err)
	}
	if got, err := api.DecodeConfig(again); err != nil || got != config() {
		t.Errorf("configuration %+v, error %v", got, err)
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, change := range map[string]func(*api.Config){
		"version":       func(c *api.Config) { c.Version = 2 },
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
		"no length": []byte("SHEDCFG1"),
		"too long":  append([]byte("SHEDCFG1"), 0, 0, 0, 9, 1),
		"nothing":   append([]byte("SHEDCFG1"), 0, 0, 0, 0, 1),
	} {
		if _, err := api.DecodeDrive(drive); !errors.Is(err, api.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, size := range []int{0, api.MaxConfigBytes + 1} {
		if _, err := api.EncodeDrive(make([]byte, size)); !errors.Is(err, api.ErrConfig) {
			t.Errorf("a drive of %d bytes: %v", size, err)
		}
	}
}

func FuzzDecodeDrive(f *testing.F) {
	encoded, err := config().Encode()
	if err != nil {
		f.Fatal(err)
	}
	drive, err := api.EncodeDrive(encoded)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(drive)
	f.Add(drive[:20])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := api.DecodeDrive(b)
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
