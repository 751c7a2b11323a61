package providertest

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/providers"
)

var infoCases = []testCase{
	{name: "info-says-who-it-is", check: func(t T, s *suite) {
		if s.info.Name == "" || s.info.Version == "" {
			t.Errorf("name %q, version %q", s.info.Name, s.info.Version)
		}
	}},
	{name: "info-speaks-this-contract", check: func(t T, s *suite) {
		if s.info.ContractVersion != providers.ContractVersion {
			t.Errorf("contract version %d, want %d", s.info.ContractVersion, providers.ContractVersion)
		}
	}},
	{name: "info-is-the-same-again", check: func(t T, s *suite) {
		again, err := s.Provider.Info(t.Context())
		if err != nil || again.Name != s.info.Name || again.Version != s.info.Version || !slices.Equal(again.Capabilities, s.info.Capabilities) {
			t.Errorf("got %+v, %v, was %+v", again, err, s.info)
		}
	}},
	{name: "info-works-before-configure", check: infoBeforeConfigure},
	{name: "info-offers-known-capabilities-once", check: func(t T, s *suite) {
		known := map[providers.Capability]int{
			providers.CapabilityConsole: 0, providers.CapabilitySnapshot: 0, providers.CapabilityAttachData: 0, providers.CapabilityWatch: 0,
			providers.CapabilityEndorse: 0,
		}
		for _, c := range s.info.Capabilities {
			n, ok := known[c]
			if known[c]++; !ok || n > 0 {
				t.Errorf("capability %q is unknown, or offered twice", c)
			}
		}
	}},
	{name: "info-schema-is-closed", check: infoSchema},
	{name: "info-schema-knows-the-settings", check: infoSchemaKnows},
}

func infoBeforeConfigure(t T, s *suite) {
	p := s.fresh(t)
	info, err := p.Info(t.Context())
	if err != nil || info.Name != s.info.Name {
		t.Errorf("Info answered %+v, %v", info, err)
	}
}

// fresh is the provider before its Configure.
func (s *suite) fresh(t T) providers.Provider {
	t.Helper()
	if s.Fresh == nil {
		t.Skipf("the capability %s is not offered", CapabilityProcess)
	}
	p, err := s.Fresh(t.Context())
	if err != nil {
		t.Fatalf("opening another: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p
}

// settingsSchema is as much of a JSON Schema as is looked at.
type settingsSchema struct {
	Schema               string                     `json:"$schema"`
	Type                 string                     `json:"type"`
	AdditionalProperties *bool                      `json:"additionalProperties"`
	Properties           map[string]json.RawMessage `json:"properties"`
}

func infoSchema(t T, s *suite) {
	var schema settingsSchema
	if err := json.Unmarshal(s.info.ConfigSchema, &schema); err != nil {
		t.Fatalf("the schema of the settings: %v", err)
	}
	if schema.Schema != "https://json-schema.org/draft/2020-12/schema" || schema.Type != "object" {
		t.Errorf("$schema %q, type %q", schema.Schema, schema.Type)
	}
	if schema.AdditionalProperties == nil || *schema.AdditionalProperties {
		t.Errorf("the schema takes settings that it does not know")
	}
}

func infoSchemaKnows(t T, s *suite) {
	var schema settingsSchema
	var settings map[string]json.RawMessage
	if err := json.Unmarshal(s.info.ConfigSchema, &schema); err != nil {
		t.Fatalf("the schema of the settings: %v", err)
	}
	if err := json.Unmarshal(s.Settings, &settings); err != nil {
		t.Fatalf("the settings: %v", err)
	}
	for name := range settings {
		if _, ok := schema.Properties[name]; !ok {
			t.Errorf("the schema does not know %s", name)
		}
	}
}

var configureCases = []testCase{
	{name: "configure-can-be-repeated", check: func(t T, s *suite) {
		for range 2 {
			if err := s.Provider.Configure(t.Context(), s.Settings); err != nil {
				t.Errorf("Configure: %v", err)
			}
		}
	}},
	{name: "configure-names-the-unknown", check: func(t T, s *suite) {
		err := s.Provider.Configure(t.Context(), []byte(`{"no_such_setting":1}`))
		wantCode(t, "Configure", err, providers.CodeInvalid)
		if err != nil && !strings.Contains(messageOf(err), "no_such_setting") {
			t.Errorf("the setting is not named: %v", err)
		}
	}},
	{name: "configure-refuses-what-is-no-object", check: func(t T, s *suite) {
		for _, settings := range []string{`[]`, ``, `{`, `null`, `"a"`, `{}{}`} {
			wantCode(t, "Configure("+settings+")", s.Provider.Configure(t.Context(), []byte(settings)), providers.CodeInvalid)
		}
	}},
	{name: "configure-refused-changes-nothing", check: func(t T, s *suite) {
		wantCode(t, "Configure", s.Provider.Configure(t.Context(), []byte(`{"no_such_setting":1}`)), providers.CodeInvalid)
		if _, err := s.Provider.Offerings(t.Context()); err != nil {
			t.Errorf("Offerings: %v", err)
		}
	}},
	{name: "configure-leaves-machines-alone", check: func(t T, s *suite) {
		b := s.bench(t)
		req, before := b.create()
		if err := s.Provider.Configure(t.Context(), s.Settings); err != nil {
			t.Errorf("Configure: %v", err)
		}
		if m := b.get(req.Machine); m.Power != providers.PowerOn || m.Endpoint != before.Endpoint {
			t.Errorf("got %+v, was %+v", m, before)
		}
	}},
	{name: "calls-before-configure-are-unavailable", check: func(t T, s *suite) {
		p := s.fresh(t)
		_, err := p.Get(t.Context(), providers.MachineID(newID()))
		wantCode(t, "Get", err, providers.CodeUnavailable)
		_, err = p.List(t.Context(), providers.InstallationID(newID()), "")
		wantCode(t, "List", err, providers.CodeUnavailable)
		_, err = p.Offerings(t.Context())
		wantCode(t, "Offerings", err, providers.CodeUnavailable)
	}},
}

var offeringCases = []testCase{
	{name: "offerings-are-complete", check: func(t T, s *suite) {
		for _, o := range s.offerings(t) {
			if o.Region == "" || o.Size == "" || o.VCPUs < 1 || o.MemoryBytes < 1 || o.Available < -1 {
				t.Errorf("offering %+v is incomplete", o)
			}
		}
	}},
	{name: "offerings-are-distinct", check: func(t T, s *suite) {
		told := map[[2]string]bool{}
		for _, o := range s.offerings(t) {
			key := [2]string{o.Region, o.Size}
			if told[key] {
				t.Errorf("%s in %s is offered twice", o.Size, o.Region)
			}
			told[key] = true
		}
	}},
	{name: "offerings-name-the-currency-of-a-price", check: func(t T, s *suite) {
		for _, o := range s.offerings(t) {
			if o.MicrosPerHour < 0 || o.MicrosPerHour > 0 && len(o.Currency) != 3 {
				t.Errorf("%s in %s costs %d %q", o.Size, o.Region, o.MicrosPerHour, o.Currency)
			}
		}
	}},
	{name: "offerings-hold-what-machines-are-made-as", check: func(t T, s *suite) {
		b := s.bench(t)
		_, m := b.create()
		for _, o := range s.offerings(t) {
			if o.Region == m.Region && o.Size == m.Size {
				return
			}
		}
		t.Errorf("a machine is a %q in %q, which is not offered", m.Size, m.Region)
	}},
}

func (s *suite) offerings(t T) []providers.Offering {
	t.Helper()
	offerings, err := s.Provider.Offerings(t.Context())
	if err != nil {
		t.Fatalf("Offerings: %v", err)
	}
	if len(offerings) == 0 {
		t.Fatalf("nothing is offered")
	}
	return offerings
}
