package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator/config"
)

func none(string) (string, bool) { return "", false }

func write(t testing.TB, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "shed.yaml")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const whole = `version: 1
listen: {admin: "127.0.0.1:0"}
agents:
  advertise: 10.0.2.2:0
release:
  key_file: keys/release.pub
policy:
  minimum_tier: provider-rooted
  ek_roots:
    - file: roots/ca.pem
      tier: software
    - {file: /abs/ca.pem, tier: hardware}
  endorsements: [{file: crl.pem, kind: revocation-lists}]
provider:
  name: qemu
  settings:
    state: here
    accelerator: {probe: true, deadline_ms: 500}
limits:
  machines: 3
timeouts: {booting: 90s}
`

func TestFileIsReadWhole(t *testing.T) {
	name := write(t, whole)
	c, values, err := config.Load(config.Sources{File: name, Env: none})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(name)
	if c.AdminListen != "127.0.0.1:0" || c.Machines != 3 || c.Limits.Booting != 90*time.Second ||
		c.MinimumTier != attest.TierProviderRooted || c.ReleaseKeyFile != filepath.Join(dir, "keys/release.pub") {
		t.Errorf("%+v", c)
	}
	if len(c.Endorsements) != 1 || c.Endorsements[0] != (config.Endorsement{File: filepath.Join(dir, "crl.pem"), Kind: config.RevocationLists}) {
		t.Errorf("endorsements %+v", c.Endorsements)
	}
	if len(c.TrustAnchors) != 2 || c.TrustAnchors[0].File != filepath.Join(dir, "roots/ca.pem") || c.TrustAnchors[1].File != "/abs/ca.pem" ||
		c.TrustAnchors[1].Tier != attest.TierHardware {
		t.Errorf("roots %+v", c.TrustAnchors)
	}
	if got := string(c.Settings); got != `{"accelerator":{"deadline_ms":500,"probe":true},"state":"here"}` {
		t.Errorf("settings %s", got)
	}
	for _, v := range values {
		if v.Key == "limits.machines" && v.Source != name+":20" {
			t.Errorf("source %q", v.Source)
		}
		if v.Meaning == "" {
			t.Errorf("%s has no meaning", v.Key)
		}
	}
}

func TestPrecedence(t *testing.T) {
	name := write(t, "version: 1\nlimits: {machines: 1, repairs: 1}\ninstance: {size: file}\n")
	env := func(k string) (string, bool) {
		v, ok := map[string]string{"SHED_LIMITS_MACHINES": "2", "SHED_LIMITS_REPAIRS": "2"}[k]
		return v, ok
	}
	c, _, err := config.Load(config.Sources{File: name, Env: env, Flags: []string{"limits.machines=3"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Machines != 3 || c.Repairs != 2 || c.Size != "file" || c.Region != "local" {
		t.Errorf("%+v", c)
	}
}

func TestWrongFilesAreRefusedByNameAndLine(t *testing.T) {
	for _, c := range []struct{ name, content, want string }{
		{"unknown key", "version: 1\nlimits:\n  machnes: 3\n", ":3: unknown key limits.machnes"},
		{"unknown section", "version: 1\nlimit: {machines: 3}\n", ":2: unknown key limit"},
		{"twice", "version: 1\nlimits:\n  machines: 3\n  machines: 4\n", "machines"},
		{"no version", "limits: {machines: 3}\n", "version is missing"},
		{"other version", "version: 2\n", "version is 2, want 1"},
		{"section is a value", "version: 1\nlimits: 3\n", "limits is not a map"},
		{"bad number", "version: 1\nlimits: {machines: many}\n", "limits.machines"},
		{"bad duration", "version: 1\ntimeouts: {booting: -3s}\n", "timeouts.booting"},
		{"bad tier", "version: 1\npolicy: {minimum_tier: none}\n", "policy.minimum_tier"},
		{"bad endorsement", "version: 1\npolicy: {endorsements: [{file: x, kind: crl}]}\n", "policy.endorsements"},
		{"no endorsement", "version: 1\npolicy: {endorsements: [{kind: revocation-lists}]}\n", "policy.endorsements"},
		{"bad root", "version: 1\npolicy: {ek_roots: [{file: x, tear: software}]}\n", "policy.ek_roots"},
		{"bad address", "version: 1\nlisten: {admin: here}\n", "listen.admin"},
		{"impatient", "version: 1\nagents: {heartbeat: 60s}\n", "timeouts.heartbeat_lost is 1m30s"},
		{"no document", "", "want one YAML document"},
		{"not yaml", "version: [1\n", "shed.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := config.Load(config.Sources{File: write(t, c.content), Env: none})
			if !errors.Is(err, config.ErrConfig) || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(fmt.Sprint(err), "\n") {
				t.Errorf("more than a line: %q", err)
			}
		})
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, flag := range []string{"limits.machines", "limits.machnes=3", "limits.machines=x"} {
		if _, _, err := config.Load(config.Sources{Env: none, Flags: []string{flag}}); !errors.Is(err, config.ErrConfig) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(whole)
	f.Add("version: 1\n? [a]\n: b\n")
	f.Add("version: 1\nlimits: &a {machines: 1}\npolicy: *a\n")
	f.Fuzz(func(t *testing.T, content string) {
		_, values, err := config.Load(config.Sources{File: write(t, content), Env: none})
		if err == nil && len(values) == 0 {
			t.Error("neither error nor values")
		}
	})
}

func TestWitnesses(t *testing.T) {
	const key = "w.example+2b6c40ed+BCv0" // cut
	for name, flags := range map[string][]string{
		"quorum above":   {"transparency.quorum=1"},
		"no key":         {`transparency.witnesses=[{"url":"http://w"}]`},
		"cut key":        {`transparency.witnesses=[{"url":"http://w","key":"` + key + `"}]`},
		"no url":         {`transparency.witnesses=[{"url":"w","key":"` + key + `"}]`},
		"unknown field":  {`transparency.witnesses=[{"uri":"http://w","key":"` + key + `"}]`},
		"origin":         {"transparency.origin=two words"},
		"refresh":        {"transparency.refresh=never"},
		"listen address": {"listen.transparency=nowhere"},
	} {
		if _, _, err := config.Load(config.Sources{Env: none, Flags: flags}); !errors.Is(err, config.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
