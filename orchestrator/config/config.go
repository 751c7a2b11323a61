// Package config reads how a control plane shall run.
//
// Invariants: every key is in one table, with its default and its meaning, and
// a key that is not there is an error that names it and its line. A flag goes
// over the environment, that over the file, that over the default, and each
// value remembers where it came from. Nothing secret is a value: secrets are
// files that values name.
package config

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/orchestrator"
)

// Version is the only version of the file that is read.
const Version = 1

// ErrConfig says that the configuration cannot be used; the message names the
// key.
var ErrConfig = errors.New("configuration")

// TrustAnchor names an accepted root of endorsement certificates.
type TrustAnchor struct {
	File string      `json:"file"`
	Tier attest.Tier `json:"tier"`
}

// Endorsement names a file of what vouches for machines' keys.
type Endorsement struct {
	File string          `json:"file"`
	Kind EndorsementKind `json:"kind"`
}

// EndorsementKind says what an endorsement's file holds.
type EndorsementKind string

// The kinds: PEM certificates between endorsement keys and their roots, or of
// whoever signs hardware reports; PEM lists of whichever issuers; an encoded
// tdx.Collateral.
const (
	EKIntermediates    EndorsementKind = "ek-intermediates"
	ReportCertificates EndorsementKind = "report-certificates"
	RevocationLists    EndorsementKind = "revocation-lists"
	TDXCollateral      EndorsementKind = "tdx-collateral"
)

// Witness names one that is asked to cosign the log.
type Witness struct {
	URL string         `json:"url"`
	Key checkpoint.Key `json:"key"`
}

// Config is a whole configuration.
type Config struct {
	AdminListen    string
	WebhooksListen string
	AgentsListen   string
	LogListen      string
	// Advertise is the host:port that machines dial; port 0 is AgentsListen's.
	Advertise string
	Heartbeat time.Duration
	// SecretFile holds the webhook secret; empty for one that is drawn and
	// kept in the state directory.
	SecretFile     string
	ReleaseKeyFile string
	DefaultRelease attest.ReleaseDigest
	MinimumTier    attest.Tier
	TrustAnchors   []TrustAnchor
	// Endorsements are handed to machines, to be shown to whoever verifies.
	Endorsements []Endorsement
	// ProviderName is the provider of places that name none.
	ProviderName string
	Plugin       string
	Settings     []byte
	// PluginKeys are files with the public keys of who may sign plugins;
	// PluginsUnsigned starts those that nobody has signed.
	PluginKeys      []string
	PluginsUnsigned bool
	// More are the providers besides that one.
	More      map[string]Provider
	Machines  int
	Repairs   int
	Region    string
	Size      string
	Places    []Place
	Plans     map[string][]Place
	DataBytes int64
	Limits    orchestrator.Limits
	// HeartbeatLost and OrphanGrace are reconcile.Policy's.
	HeartbeatLost time.Duration
	OrphanGrace   time.Duration
	LogLevel      zapcore.Level
	// LogOrigin names the transparency log; empty for none. LogQuorum is how
	// many of LogWitnesses have to cosign before anything of it is shown.
	LogOrigin    string
	LogWitnesses []Witness
	LogQuorum    int
	LogRefresh   time.Duration
	// AuditEvery is how often a new head of the results goes into the log.
	AuditEvery time.Duration

	// sources say where each key's value came from.
	sources map[string]string
}

// Errorf is ErrConfig about one key, and says where its value came from.
func (c *Config) Errorf(key string, err error) error {
	source := c.sources[key]
	if source == "" {
		source = sourceDefault
	}
	return fmt.Errorf("%w: %s (from %s): %w", ErrConfig, key, source, err)
}

// key is one row of the table.
type key struct {
	name     string
	fallback string
	meaning  string
	// set reads the value's text: a scalar as it stands, anything else as
	// JSON. dir is what relative paths are relative to.
	set func(c *Config, text, dir string) error
}

var table = []key{
	{"listen.admin", "127.0.0.1:7480", "where operators reach the admin API; port 0 for any", text(func(c *Config) *string { return &c.AdminListen }, address)},
	{"listen.webhooks", "127.0.0.1:7481", "where signup webhooks are posted; port 0 for any", text(func(c *Config) *string { return &c.WebhooksListen }, address)},
	{"listen.agents", "127.0.0.1:7482", "where machines report; port 0 for any, and then the same ever after", text(func(c *Config) *string { return &c.AgentsListen }, address)},
	{"listen.transparency", "127.0.0.1:7483", "where anybody reads the transparency log; port 0 for any", text(func(c *Config) *string { return &c.LogListen }, address)},
	{"agents.advertise", "10.0.2.2:0", "the host:port that machines dial; port 0 for that of listen.agents", text(func(c *Config) *string { return &c.Advertise }, address)},
	{"agents.heartbeat", "5s", "how often machines report", duration(func(c *Config) *time.Duration { return &c.Heartbeat }, minHeartbeat, maxHeartbeat)},
	{"webhook.secret_file", "", "file with the whsec_ secret; empty for one that is drawn and kept in the state directory", path(func(c *Config) *string { return &c.SecretFile })},
	{"release.key_file", "", "public key, PEM, that releases must be signed with; needed", path(func(c *Config) *string { return &c.ReleaseKeyFile })},
	{"release.default", "", "digest of the release for new machines; empty for the newest that was not withdrawn", digest(func(c *Config) *attest.ReleaseDigest { return &c.DefaultRelease })},
	{"policy.minimum_tier", "software", "least tier of a machine that is routed to: software, provider-rooted, hardware", tier},
	{"policy.ek_roots", "[]", "accepted roots of endorsement certificates: a list of file (PEM) and tier; may be empty where the provider names its machines' keys", roots},
	{"policy.endorsements", "[]", "what machines are given to show beside their own endorsement certificate: a list of file and kind, which is ek-intermediates, report-certificates, revocation-lists (all PEM) or tdx-collateral", endorsements},
	{"provider.name", "qemu", "which provider plugin makes machines", text(func(c *Config) *string { return &c.ProviderName }, notEmpty)},
	{"provider.plugin", "", "the plugin's program; empty for shed-provider-NAME beside this one", path(func(c *Config) *string { return &c.Plugin })},
	{"provider.settings", "{}", "the provider's own settings, a map", settings},
	{"providers", "{}", "more providers beside that one: a map of name to plugin and settings", moreProviders},
	{"plugins.keys", "[]", "public keys, PEM files, of who may sign the plugins that did not come with this program", pluginKeys},
	{"plugins.unsigned", "false", "start plugins that nobody has signed, for development: true or false", truth(func(c *Config) *bool { return &c.PluginsUnsigned })},
	{"limits.machines", "10", "how many machines at most; more instances wait", number(func(c *Config) *int { return &c.Machines }, 0, 1_000_000)},
	{"limits.repairs", "3", "how many restarts an instance gets before it has failed", number(func(c *Config) *int { return &c.Repairs }, 0, 1000)},
	{"instance.region", "local", "where machines are made where instance.places is empty", text(func(c *Config) *string { return &c.Region }, nil)},
	{"instance.size", "standard", "which size machines have where instance.places is empty", text(func(c *Config) *string { return &c.Size }, nil)},
	{"instance.places", "[]", "where machines are made, tried in order where one has no room: a list of provider, region and size", places},
	{"plans", "{}", "places for signups that name a plan: a map of name to a list as that of instance.places", plans},
	{"instance.data_bytes", "1073741824", "size of the data disk", size(func(c *Config) *int64 { return &c.DataBytes })},
	{"timeouts.requested", "30m", "until the image is at the provider", duration(func(c *Config) *time.Duration { return &c.Limits.Requested }, minTimeout, maxTimeout)},
	{"timeouts.creating", "10m", "until the provider has accepted the machine", duration(func(c *Config) *time.Duration { return &c.Limits.Creating }, minTimeout, maxTimeout)},
	{"timeouts.booting", "5m", "until the machine introduces itself", duration(func(c *Config) *time.Duration { return &c.Limits.Booting }, minTimeout, maxTimeout)},
	{"timeouts.enrolling", "2m", "until the machine has proved itself and serves", duration(func(c *Config) *time.Duration { return &c.Limits.Enrolling }, minTimeout, maxTimeout)},
	{"timeouts.deleting", "10m", "until a deletion that is not done is reported as overdue", duration(func(c *Config) *time.Duration { return &c.Limits.Deleting }, minTimeout, maxTimeout)},
	{"timeouts.heartbeat_lost", "90s", "how long a ready machine may be silent", duration(func(c *Config) *time.Duration { return &c.HeartbeatLost }, minTimeout, maxTimeout)},
	{"timeouts.orphan_grace", "10m", "how long a leftover at the provider must be nobody's before it is deleted", duration(func(c *Config) *time.Duration { return &c.OrphanGrace }, minTimeout, maxTimeout)},
	{"transparency.origin", "", "name of the transparency log that releases stand in, such as shed.example/log; empty for none", text(func(c *Config) *string { return &c.LogOrigin }, origin)},
	{"transparency.witnesses", "[]", "who cosigns the log: a list of url and key, the verifier key that shed witness prints", witnesses},
	{"transparency.quorum", "0", "how many witnesses must have cosigned before anything of the log is shown; 0 for all", number(func(c *Config) *int { return &c.LogQuorum }, 0, release.MaxWitnesses)},
	{"transparency.refresh", "5m", "how often cosignatures are renewed and handed to machines", duration(func(c *Config) *time.Duration { return &c.LogRefresh }, minTimeout, maxTimeout)},
	{"transparency.audit_every", "10m", "how often the head of the results goes into the log, where there are new ones", duration(func(c *Config) *time.Duration { return &c.AuditEvery }, minTimeout, maxTimeout)},
	{"log.level", "info", "debug, info, warn or error", level},
}

// What machines take for a heartbeat's interval (agent/enrol), and what makes
// sense of a timeout.
const (
	minHeartbeat = 200 * time.Millisecond
	maxHeartbeat = 5 * time.Minute
	minTimeout   = time.Second
	maxTimeout   = 30 * 24 * time.Hour
)

func text(field func(*Config) *string, check func(string) error) func(*Config, string, string) error {
	return func(c *Config, s, _ string) error {
		*field(c) = s
		if check == nil {
			return nil
		}
		return check(s)
	}
}

func address(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not host:port", s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q has no port from 0 to 65535", s)
	}
	return nil
}

func notEmpty(s string) error {
	if s == "" {
		return errors.New("is empty")
	}
	return nil
}

func path(field func(*Config) *string) func(*Config, string, string) error {
	return func(c *Config, s, dir string) error {
		*field(c) = from(dir, s)
		return nil
	}
}

func from(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func truth(field func(*Config) *bool) func(*Config, string, string) error {
	return func(c *Config, s, _ string) error {
		*field(c) = s == "true"
		if s != "true" && s != "false" {
			return fmt.Errorf("%q is neither true nor false", s)
		}
		return nil
	}
}

func duration(field func(*Config) *time.Duration, least, most time.Duration) func(*Config, string, string) error {
	return func(c *Config, s, _ string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d < least || d > most {
			return fmt.Errorf("%q is no duration from %s to %s, such as 90s", s, least, most)
		}
		*field(c) = d
		return nil
	}
}

func number(field func(*Config) *int, least, most int) func(*Config, string, string) error {
	return func(c *Config, s, _ string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q is no number from %d to %d", s, least, most)
		}
		*field(c) = n
		return nil
	}
}

// A data disk has whole sectors, and room for a file system.
const (
	sectorBytes  = 512
	minDataBytes = 16 << 20
	maxDataBytes = 16 << 40
)

func size(field func(*Config) *int64) func(*Config, string, string) error {
	return func(c *Config, s, _ string) error {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < minDataBytes || n > maxDataBytes || n%sectorBytes != 0 {
			return fmt.Errorf("%q is no multiple of %d bytes from %d to %d", s, sectorBytes, minDataBytes, maxDataBytes)
		}
		*field(c) = n
		return nil
	}
}

func digest(field func(*Config) *attest.ReleaseDigest) func(*Config, string, string) error {
	return func(c *Config, s, _ string) (err error) {
		*field(c) = attest.ReleaseDigest{}
		if s != "" {
			*field(c), err = attest.ParseReleaseDigest(s)
		}
		return err
	}
}

func tier(c *Config, s, _ string) error {
	if err := c.MinimumTier.UnmarshalText([]byte(s)); err != nil {
		return err
	}
	if c.MinimumTier == attest.TierNone {
		return errors.New("none would route to machines that prove nothing")
	}
	return nil
}

func roots(c *Config, s, dir string) error {
	c.TrustAnchors = nil
	if err := strictJSON(s, &c.TrustAnchors); err != nil {
		return err
	}
	for n, root := range c.TrustAnchors {
		if root.File == "" || root.Tier == attest.TierNone {
			return fmt.Errorf("entry %d needs a file, and a tier that is not none", n+1)
		}
		c.TrustAnchors[n].File = from(dir, root.File)
	}
	return nil
}

func endorsements(c *Config, s, dir string) error {
	c.Endorsements = nil
	if err := strictJSON(s, &c.Endorsements); err != nil {
		return err
	}
	for n, e := range c.Endorsements {
		switch e.Kind {
		case EKIntermediates, ReportCertificates, RevocationLists, TDXCollateral:
		default:
			return fmt.Errorf("entry %d has the unknown kind %q", n+1, e.Kind)
		}
		if e.File == "" {
			return fmt.Errorf("entry %d needs a file", n+1)
		}
		c.Endorsements[n].File = from(dir, e.File)
	}
	return nil
}

// origin is a log's name as checkpoints have it, or none.
func origin(s string) error {
	if s == "" {
		return nil
	}
	_, err := checkpoint.NewKey(checkpoint.KindLog, s, make([]byte, ed25519.PublicKeySize))
	return err
}

func witnesses(c *Config, s, _ string) error {
	c.LogWitnesses = nil
	var named []struct{ URL, Key string }
	if err := strictJSON(s, &named); err != nil {
		return err
	}
	if len(named) > release.MaxWitnesses {
		return fmt.Errorf("%d witnesses, at most %d", len(named), release.MaxWitnesses)
	}
	for n, w := range named {
		u, err := url.Parse(w.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("entry %d: url %q is not http://host or https://host", n+1, w.URL)
		}
		key, err := checkpoint.ParseKey(checkpoint.KindWitness, w.Key)
		if err != nil {
			return fmt.Errorf("entry %d: %w", n+1, err)
		}
		c.LogWitnesses = append(c.LogWitnesses, Witness{URL: w.URL, Key: key})
	}
	return nil
}

func settings(c *Config, s, _ string) error {
	var m map[string]any
	if err := strictJSON(s, &m); err != nil {
		return err
	}
	b, err := json.Marshal(m)
	c.Settings = b
	return err
}

func level(c *Config, s, _ string) error { return c.LogLevel.UnmarshalText([]byte(s)) }
