package memory

import (
	"fmt"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest/strictjson"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// Schema is the JSON Schema of the settings.
const Schema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "Settings of the memory provider, a fake cloud for tests",
  "type": "object",
  "properties": {
    "credentials": {"type": "string", "description": "any text; another one counts as rotated"},
    "latency": {"type": "string", "description": "how long each call takes, as Go writes durations"},
    "burst": {"type": "integer", "minimum": 0, "description": "how many Create calls the bucket holds; 0 for no bucket"},
    "rate": {"type": "number", "minimum": 0, "description": "how many Create calls a second the bucket gets back"},
    "regions": {"type": "array", "items": {"type": "object", "additionalProperties": false,
      "properties": {"name": {"type": "string"}, "capacity": {"type": "integer", "minimum": -1}}}},
    "sizes": {"type": "array", "items": {"type": "object", "additionalProperties": false,
      "properties": {"name": {"type": "string"}, "vcpus": {"type": "integer"}, "memory_bytes": {"type": "integer"}, "micros_per_hour": {"type": "integer"}}}}
  },
  "additionalProperties": false
}
`

// settings is what Configure takes.
type settings struct {
	Credentials string       `json:"credentials"`
	Latency     sdk.Duration `json:"latency"`
	// Burst and Rate are those of the bucket of Create calls: clouds count those
	// that make something apart.
	Burst   int      `json:"burst"`
	Rate    float64  `json:"rate"`
	Regions []region `json:"regions"`
	Sizes   []size   `json:"sizes"`
}

// region is a place. Capacity is how many machines it holds, -1 for any
// number.
type region struct {
	Name     string `json:"name"`
	Capacity int    `json:"capacity"`
}

type size struct {
	Name          string `json:"name"`
	VCPUs         int    `json:"vcpus"`
	MemoryBytes   int64  `json:"memory_bytes"`
	MicrosPerHour int64  `json:"micros_per_hour"`
}

// CheckSettings is what Configure would say of them.
func CheckSettings(b []byte) error {
	_, err := parseSettings(b)
	return err
}

func parseSettings(b []byte) (settings, error) {
	s := settings{}
	if err := strictjson.Unmarshal(b, &s); err != nil {
		return s, providers.Errorf(providers.CodeInvalid, "reading the settings: %s", err)
	}
	if s.Regions == nil {
		s.Regions = []region{{Name: "local", Capacity: -1}}
	}
	if s.Sizes == nil {
		s.Sizes = []size{{Name: "standard", VCPUs: 1, MemoryBytes: 1 << 30}}
	}
	switch {
	case s.Burst < 0 || s.Rate < 0 || s.Burst > 0 && s.Rate == 0:
		return s, providers.Errorf(providers.CodeInvalid, "settings: a bucket of burst %d and rate %g never fills", s.Burst, s.Rate)
	case len(s.Regions) == 0 || len(s.Sizes) == 0:
		return s, providers.Errorf(providers.CodeInvalid, "settings: regions or sizes is an empty list")
	}
	return s, nil
}

// place is where, and as what, a machine is made.
type place struct {
	region region
	size   size
}

// place finds one by its names; the first of each where they are empty.
func (s *settings) place(regionName, sizeName string) (out place, err error) {
	var names []string
	found := false
	for i, r := range s.Regions {
		if names = append(names, r.Name); r.Name == regionName || regionName == "" && i == 0 {
			out.region, found = r, true
		}
	}
	if !found {
		return out, providers.Errorf(providers.CodeInvalid, "region %q is not offered: %s", regionName, strings.Join(names, ", "))
	}
	names, found = nil, false
	for i, z := range s.Sizes {
		if names = append(names, z.Name); z.Name == sizeName || sizeName == "" && i == 0 {
			out.size, found = z, true
		}
	}
	if !found {
		return out, providers.Errorf(providers.CodeInvalid, "size %q is not offered: %s", sizeName, strings.Join(names, ", "))
	}
	return out, nil
}

// taken counts a region's machines. The caller holds p.mu.
func (p *Provider) taken(regionName string) int {
	n := 0
	for _, m := range p.machines {
		if m.Region == regionName {
			n++
		}
	}
	return n
}

// room refuses a region that is full. The caller holds p.mu.
func (p *Provider) room(at place) error {
	if at.region.Capacity < 0 || p.taken(at.region.Name) < at.region.Capacity {
		return nil
	}
	return providers.Errorf(providers.CodeCapacity, "region %s holds %d machines already", at.region.Name, at.region.Capacity).In(providers.ScopeRegion)
}

// offering describes a place. The caller holds p.mu.
func (p *Provider) offering(r region, z size) providers.Offering {
	out := providers.Offering{Region: r.Name, Size: z.Name, VCPUs: z.VCPUs, MemoryBytes: z.MemoryBytes, Available: -1, MicrosPerHour: z.MicrosPerHour}
	if z.MicrosPerHour > 0 {
		out.Currency = "USD"
	}
	if r.Capacity >= 0 {
		out.Available = max(0, r.Capacity-p.taken(r.Name))
	}
	return out
}

// bucket is a token bucket; the zero value holds any number.
type bucket struct {
	burst  float64
	rate   float64
	tokens float64
	at     time.Time
}

// set gives the bucket other bounds, and fills it where it had none.
func (b *bucket) set(s settings, now time.Time) {
	if b.burst == 0 {
		b.tokens = float64(s.Burst)
	}
	b.burst, b.rate, b.at = float64(s.Burst), s.Rate, now
	b.tokens = min(b.tokens, b.burst)
}

// take answers after how long there will be a token; zero where one was taken.
func (b *bucket) take(now time.Time) time.Duration {
	if b.burst == 0 {
		return 0
	}
	if gone := now.Sub(b.at); gone > 0 {
		b.tokens = min(b.burst, b.tokens+b.rate*gone.Seconds())
		b.at = now
	}
	if b.tokens >= 1 {
		b.tokens--
		return 0
	}
	return time.Duration((1 - b.tokens) / b.rate * float64(time.Second))
}

func throttled(wait time.Duration) *providers.Error {
	return &providers.Error{
		Code: providers.CodeThrottled, Scope: providers.ScopeAccount, RetryAfter: max(wait, time.Millisecond),
		Message: fmt.Sprintf("too many calls: the next one in %s", wait.Round(time.Millisecond)),
	}
}
