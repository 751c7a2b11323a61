package signup

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/toolshed-cloud/shed/orchestrator"
)

// The types of event that are taken in.
const (
	UserCreated = "user.created"
	UserDeleted = "user.deleted"
)

const (
	// tolerance is how far a message's time may be from ours, either way.
	tolerance    = 5 * time.Minute
	maxUserBytes = 256
	maxIDBytes   = 256
	secretPrefix = "whsec_"
	// minSecret and maxSecret are the specification's bounds on a key.
	minSecret = 24
	maxSecret = 64
)

// ErrSignature says that a message is not from who shares the secret, or is
// not recent.
var ErrSignature = errors.New("webhook signature is not accepted")

// ErrEvent says that a message is not the event it claims to be.
var ErrEvent = errors.New("webhook body is not an accepted event")

// Event is what a signup source sends.
type Event struct {
	Type string
	At   time.Time
	User orchestrator.UserID
	// Wish is a signup's; empty where the source has none.
	Wish orchestrator.Wish
}

// Secret signs and checks messages.
type Secret struct{ key *webhooks.Webhook }

// ParseSecret reads a secret in the form of the Standard Webhooks
// specification: whsec_ and 24 to 64 bytes in base64. The error is
// ErrSignature.
func ParseSecret(text string) (Secret, error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), secretPrefix)
	if !ok {
		return Secret{}, fmt.Errorf("webhook secret does not begin with %s", secretPrefix)
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return Secret{}, errors.New("webhook secret is not base64")
	}
	if len(raw) < minSecret || len(raw) > maxSecret {
		return Secret{}, fmt.Errorf("webhook secret has %d bytes, want %d to %d", len(raw), minSecret, maxSecret)
	}
	key, err := webhooks.NewWebhookRaw(raw)
	if err != nil {
		return Secret{}, fmt.Errorf("using the webhook secret: %w", err)
	}
	return Secret{key: key}, nil
}

// NewSecret draws a secret in its text form. Errors are those of random.
func NewSecret(random io.Reader) (string, error) {
	var b [32]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("drawing a webhook secret: %w", err)
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(b[:]), nil
}

// Sign makes the headers of a message. Errors are the library's.
func (s Secret) Sign(id string, at time.Time, body []byte) (http.Header, error) {
	signature, err := s.key.Sign(id, at, body)
	if err != nil {
		return nil, fmt.Errorf("signing a webhook: %w", err)
	}
	h := http.Header{}
	h.Set(webhooks.HeaderWebhookID, id)
	h.Set(webhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(webhooks.HeaderWebhookSignature, signature)
	return h, nil
}

// Check verifies a message and returns its id. The library's own check of the
// time reads a clock that cannot be passed in, so that part is done here. The
// error is ErrSignature.
func (s Secret) Check(h http.Header, body []byte, now time.Time) (id string, err error) {
	if err := s.key.VerifyIgnoringTimestamp(body, h); err != nil {
		return "", fmt.Errorf("%w: %w", ErrSignature, err)
	}
	seconds, err := strconv.ParseInt(h.Get(webhooks.HeaderWebhookTimestamp), 10, 64)
	if err != nil {
		return "", fmt.Errorf("%w: webhook-timestamp is not a number", ErrSignature)
	}
	if off := now.Sub(time.Unix(seconds, 0)).Abs(); off > tolerance {
		return "", fmt.Errorf("%w: webhook-timestamp is %s from now, at most %s is allowed", ErrSignature, off.Round(time.Second), tolerance)
	}
	id = h.Get(webhooks.HeaderWebhookID)
	if len(id) > maxIDBytes {
		return "", fmt.Errorf("%w: webhook-id has %d bytes, at most %d are allowed", ErrSignature, len(id), maxIDBytes)
	}
	return id, nil
}

// Encode writes an event as ParseEvent reads it. Errors are those of
// encoding/json.
func (e Event) Encode() ([]byte, error) {
	data := map[string]any{"user_id": string(e.User)}
	for key, value := range map[string]string{"plan": e.Wish.Plan, "region": e.Wish.Region} {
		if value != "" {
			data[key] = value
		}
	}
	b, err := json.Marshal(map[string]any{
		"type": e.Type, "timestamp": e.At.UTC().Format(time.RFC3339Nano), "data": data,
	})
	if err != nil {
		return nil, fmt.Errorf("encoding an event: %w", err)
	}
	return b, nil
}

// ParseEvent reads a body. Every field must be there, once, and no other, but
// for a signup's plan and region, which may be missing. The error is ErrEvent,
// and names the field.
func ParseEvent(body []byte, now time.Time) (Event, error) {
	var e Event
	top, err := object("", body, fields{needed: []string{"type", "timestamp", "data"}})
	if err != nil {
		return e, err
	}
	if err := text("type", top["type"], &e.Type); err != nil {
		return e, err
	}
	if e.Type != UserCreated && e.Type != UserDeleted {
		return e, fmt.Errorf("%w: type %.64q is neither %s nor %s", ErrEvent, e.Type, UserCreated, UserDeleted)
	}
	if e.At, err = when(top["timestamp"], now); err != nil {
		return e, err
	}
	in := fields{needed: []string{"user_id"}}
	if e.Type == UserCreated {
		in.may = []string{"plan", "region"}
	}
	data, err := object("data.", top["data"], in)
	if err != nil {
		return e, err
	}
	var user string
	if err := text("data.user_id", data["user_id"], &user); err != nil {
		return e, err
	}
	e.User = orchestrator.UserID(user)
	if err := CheckUser(e.User); err != nil {
		return e, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	if e.Wish.Plan, err = placeName("data.plan", data["plan"]); err != nil {
		return e, err
	}
	e.Wish.Region, err = placeName("data.region", data["region"])
	return e, err
}

// placeNames are what plans and regions are called.
var placeNames = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)

// CheckWish refuses what no plan and no region is called, with an error that
// names the field.
func CheckWish(w orchestrator.Wish) error {
	for field, name := range map[string]string{"plan": w.Plan, "region": w.Region} {
		if name != "" && !placeNames.MatchString(name) {
			return fmt.Errorf("%s %.64q is not lower-case letters, digits, dots, dashes and underscores, at most 64", field, name)
		}
	}
	return nil
}

// placeName reads one that may be missing.
func placeName(field string, raw json.RawMessage) (name string, err error) {
	if raw == nil {
		return "", nil
	}
	if err := text(field, raw, &name); err != nil {
		return "", err
	}
	if !placeNames.MatchString(name) {
		return "", fmt.Errorf("%w: %s %.64q is not lower-case letters, digits, dots, dashes and underscores, at most 64", ErrEvent, field, name)
	}
	return name, nil
}

func when(raw json.RawMessage, now time.Time) (time.Time, error) {
	var s string
	if err := text("timestamp", raw, &s); err != nil {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: timestamp %.64q is not RFC 3339", ErrEvent, s)
	}
	// A deletion from the future would void signups that are yet to come.
	if at.After(now.Add(tolerance)) {
		return time.Time{}, fmt.Errorf("%w: timestamp %.64q is in the future", ErrEvent, s)
	}
	// Nor can the store hold a time from before it counts them.
	if at.Unix() <= 0 {
		return time.Time{}, fmt.Errorf("%w: timestamp %.64q is before 1970", ErrEvent, s)
	}
	return at, nil
}

// CheckUser refuses what cannot be a user's name in the store, with an error that names the field.
func CheckUser(user orchestrator.UserID) error {
	s := string(user)
	switch {
	case s == "":
		return errors.New("user_id is empty")
	case len(s) > maxUserBytes:
		return fmt.Errorf("user_id has %d bytes, at most %d are allowed", len(s), maxUserBytes)
	case strings.ContainsRune(s, utf8.RuneError):
		// The JSON decoder puts it where it read no text, and so would make one
		// user of several.
		return errors.New("user_id is not UTF-8")
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("user_id has characters that do not print")
	}
	return nil
}

// fields are the members that an object has to have, and those that it may.
type fields struct{ needed, may []string }

// object splits a JSON object into its members, which must be those of want:
// encoding/json alone would take a key twice, or in another case.
func object(path string, raw []byte, want fields) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("%w: %s is not a JSON object", ErrEvent, nameOf(path))
	}
	members := make(map[string]json.RawMessage, len(want.needed)+len(want.may))
	for d.More() {
		token, err := d.Token()
		key, ok := token.(string)
		if err != nil || !ok {
			return nil, fmt.Errorf("%w: %s is not JSON", ErrEvent, nameOf(path))
		}
		if _, twice := members[key]; twice {
			return nil, fmt.Errorf("%w: %s%.64s is there twice", ErrEvent, path, key)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("%w: %s%.64s is not JSON", ErrEvent, path, key)
		}
		members[key] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("%w: %s is not JSON", ErrEvent, nameOf(path))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the JSON object", ErrEvent)
	}
	return members, exactly(path, members, want)
}

func exactly(path string, members map[string]json.RawMessage, want fields) error {
	for _, key := range want.needed {
		if _, ok := members[key]; !ok {
			return fmt.Errorf("%w: %s%s is missing", ErrEvent, path, key)
		}
	}
	for key := range members {
		if !slices.Contains(want.needed, key) && !slices.Contains(want.may, key) {
			return fmt.Errorf("%w: %s%.64s is unknown", ErrEvent, path, key)
		}
	}
	return nil
}

func nameOf(path string) string {
	if path == "" {
		return "the body"
	}
	return strings.TrimSuffix(path, ".")
}

func text(name string, raw json.RawMessage, into *string) error {
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, into) != nil {
		return fmt.Errorf("%w: %s is not a string", ErrEvent, name)
	}
	return nil
}
