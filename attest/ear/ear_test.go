package ear_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ear"
)

var at = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// key is synthetic: its scalar is the digest of its name, so that seeds of the
// fuzz test stay valid.
func key(tb testing.TB, name string) *ecdsa.PrivateKey {
	tb.Helper()
	scalar := sha256.Sum256([]byte("synthetic key " + name))
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func result() attest.AttestationResult {
	a := attest.AttestationResult{
		Status: attest.Warning, Tiers: attest.Tiers{Identity: attest.TierProviderRooted},
		Release: attest.ReleaseDigest{7}, Transparency: "log.example, 2 of 3 witnesses",
	}
	for _, d := range attest.Dimensions {
		a.Findings = append(a.Findings, attest.Finding{Dimension: d, Verdict: attest.Affirming, Reason: "because of <" + string(d) + ">"})
	}
	a.Findings[4].Verdict = attest.Warning
	return a
}

func claims() *ear.Claims {
	return ear.Issue(
		ear.Issuer{Role: ear.OwnerClient, Build: "0.1.0", Policies: []string{ear.PolicyID([]byte("policy"))}, At: at, Lifetime: time.Minute},
		ear.Subject{AK: []byte{0, 11, 1, 2}, EK: attest.Digest{1}, Config: attest.Digest{2}, Claim: attest.Digest{3}, Nonce: attest.Nonce{4}},
		result())
}

func sign(tb testing.TB, c *ear.Claims, by crypto.Signer) string {
	tb.Helper()
	token, err := ear.Sign(rand.Reader, c, by)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func TestSurvives(t *testing.T) {
	want, by := claims(), key(t, "a")
	token := sign(t, want, by)
	got, err := ear.Verify(token, by.Public(), ear.OwnerClient)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, want %+v", got, want)
	}
	if !got.Current(at) || got.Current(at.Add(time.Minute)) || got.Current(at.Add(-time.Second)) {
		t.Error("a minute's result is current at another time than in that minute")
	}
}

// The names and types are those of draft-ietf-rats-ear-04, sections 3 and 3.1,
// and the numbers those of AR4SI.
func TestClaimsAsDrafted(t *testing.T) {
	payload := strings.Split(sign(t, claims(), key(t, "a")), ".")[1]
	b, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	machine := got["submods"].(map[string]any)[ear.Submodule].(map[string]any)
	vector := machine["ear_trustworthiness_vector"].(map[string]any)
	for name, pair := range map[string][2]any{
		"eat_profile":                 {got["eat_profile"], "tag:ietf.org,2026:rats/ear#04"},
		"iat":                         {got["iat"], float64(at.Unix())},
		"exp":                         {got["exp"], float64(at.Unix() + 60)},
		"ear_status":                  {got["ear_status"], "warning"},
		"ear_verifier_id.developer":   {got["ear_verifier_id"].(map[string]any)["developer"], ear.Developer},
		"ear_verifier_id.build":       {got["ear_verifier_id"].(map[string]any)["build"], "0.1.0"},
		"submods.ear_status":          {machine["ear_status"], "warning"},
		"submods.eat_nonce":           {len(machine["eat_nonce"].(string)), 43},
		"vector.instance-identity":    {vector["instance-identity"], 2.0},
		"vector.hardware":             {vector["hardware"], 32.0},
		"ear_appraisal_policy_ids":    {len(machine["ear_appraisal_policy_ids"].([]any)), 1},
		"dimensions that AR4SI lists": {len(vector), 8},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %v, want %v", name, pair[0], pair[1])
		}
	}
}

// A library that is not ours reads what we write, and we what it writes.
func TestAgreesWithGoJose(t *testing.T) {
	by := key(t, "a")
	token := sign(t, claims(), by)
	parsed, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := parsed.Verify(by.Public())
	if err != nil {
		t.Fatal(err)
	}
	thumbprint, err := (&jose.JSONWebKey{Key: by.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if id := base64.RawURLEncoding.EncodeToString(thumbprint); parsed.Signatures[0].Header.KeyID != id {
		t.Errorf("kid %s, want the thumbprint %s", parsed.Signatures[0].Header.KeyID, id)
	}
	options := new(jose.SignerOptions).WithType("eat+jwt").WithHeader("kid", parsed.Signatures[0].Header.KeyID)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: by}, options)
	if err != nil {
		t.Fatal(err)
	}
	again, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := again.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ear.Verify(theirs, by.Public(), ear.OwnerClient); err != nil {
		t.Errorf("a token of go-jose's: %v", err)
	}
}

// A machine that is not accepted never has a status that reads as good.
func TestStatusOfTheUnaccepted(t *testing.T) {
	a := result()
	a.Findings[0].Verdict = attest.NoClaim
	c := ear.Issue(ear.Issuer{Role: ear.ThirdParty, At: at}, ear.Subject{}, a)
	if c.Status != "none" || c.Submods.Machine.Status != "none" || c.Submods.Machine.Shed.Accepted {
		t.Errorf("status %s, accepted %v", c.Status, c.Submods.Machine.Shed.Accepted)
	}
	a.Status, a.Findings[0].Verdict = attest.Contraindicated, attest.Contraindicated
	if c := ear.Issue(ear.Issuer{Role: ear.ThirdParty, At: at}, ear.Subject{}, a); c.Status != "contraindicated" {
		t.Errorf("status %s", c.Status)
	}
}

func TestLongTextsAreCut(t *testing.T) {
	a, by := result(), key(t, "a")
	a.Findings[1].Reason = strings.Repeat("é", 2000) + "\xff"
	a.Findings[2].Reason = "\xff\ufffd\u2028"
	c := ear.Issue(ear.Issuer{Role: ear.ThirdParty, At: at}, ear.Subject{}, a)
	if _, err := ear.Verify(sign(t, c, by), by.Public(), ear.ThirdParty); err != nil {
		t.Error(err)
	}
}

// forge signs any header and payload as the key would.
func forge(tb testing.TB, by *ecdsa.PrivateKey, header, payload string) string {
	tb.Helper()
	e := base64.RawURLEncoding
	signed := e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(payload))
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, by, digest[:])
	if err != nil {
		tb.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + e.EncodeToString(signature)
}

func parts(tb testing.TB, token string) (header, payload string) {
	tb.Helper()
	split := strings.Split(token, ".")
	h, err := base64.RawURLEncoding.DecodeString(split[0])
	if err != nil {
		tb.Fatal(err)
	}
	p, err := base64.RawURLEncoding.DecodeString(split[1])
	if err != nil {
		tb.Fatal(err)
	}
	return string(h), string(p)
}

// Each is signed by the right key, so that the header alone is the reason.
func TestAlgorithmIsPinned(t *testing.T) {
	by := key(t, "a")
	good, payload := parts(t, sign(t, claims(), by))
	if _, err := ear.Verify(forge(t, by, good, payload), by.Public(), ear.OwnerClient); err != nil {
		t.Fatalf("the twin with the right header: %v", err)
	}
	for name, header := range map[string]string{
		"none":          strings.Replace(good, "ES256", "none", 1),
		"HS256":         strings.Replace(good, "ES256", "HS256", 1),
		"EdDSA":         strings.Replace(good, "ES256", "EdDSA", 1),
		"a key inside":  strings.Replace(good, "{", `{"jwk":{},`, 1),
		"crit":          strings.Replace(good, "{", `{"crit":["b64"],"b64":false,`, 1),
		"another type":  strings.Replace(good, "eat+jwt", "JWT", 1),
		"another order": strings.Replace(good, `"alg":"ES256",`, "", 1),
		"another key":   `{"alg":"ES256","kid":"x","typ":"eat+jwt"}`,
		"empty":         `{}`,
	} {
		if header == good {
			t.Fatalf("%s: nothing changed", name)
		}
		if _, err := ear.Verify(forge(t, by, header, payload), by.Public(), ear.OwnerClient); !errors.Is(err, attest.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	by := key(t, "a")
	token := sign(t, claims(), by)
	header, payload := parts(t, token)
	split := strings.Split(token, ".")
	change := func(old, with string) string {
		if !strings.Contains(payload, old) {
			t.Fatalf("the payload has no %s", old)
		}
		return forge(t, by, header, strings.Replace(payload, old, with, 1))
	}
	refusing := strings.NewReplacer(`"ear_status":"warning"`, `"ear_status":"none"`, `"accepted":true`, `"accepted":false`, `"hardware":32`, `"hardware":96`)
	unknown := strings.NewReplacer(`"ear_status":"warning"`, `"ear_status":"good"`, `"accepted":true`, `"accepted":false`)
	changeAll := func(old, with string) string { return forge(t, by, header, strings.ReplaceAll(payload, old, with)) }
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"no signature":        {split[0] + "." + split[1] + ".", attest.ErrMalformed},
		"two parts":           {split[0] + "." + split[1], attest.ErrMalformed},
		"four parts":          {token + ".", attest.ErrMalformed},
		"a line break":        {token[:len(token)-4] + "\n" + token[len(token)-4:], attest.ErrMalformed},
		"padding":             {token + "==", attest.ErrMalformed},
		"too large":           {strings.Repeat("a", ear.MaxBytes+1), attest.ErrMalformed},
		"another's signature": {sign(t, claims(), key(t, "b")), attest.ErrSignature},
		"a changed payload":   {split[0] + "." + split[1][:len(split[1])-4] + "AAAA." + split[2], attest.ErrSignature},
		"another profile":     {change("ear#04", "ear#03"), attest.ErrMalformed},
		"an unknown claim":    {change(`"iat"`, `"nbf":1,"iat"`), attest.ErrMalformed},
		"a claim twice":       {change(`"iat"`, `"iat":1,"iat"`), attest.ErrMalformed},
		"a claim in capitals": {change(`"iat"`, `"IAT"`), attest.ErrMalformed},
		"a fraction":          {change(`"iat":1`, `"iat":1.5e1`), attest.ErrMalformed},
		"a space":             {change(`"iat":`, `"iat": `), attest.ErrMalformed},
		"no time":             {change(fmt.Sprintf(`"iat":%d`, at.Unix()), `"iat":0`), attest.ErrMalformed},
		"expired when issued": {change(fmt.Sprintf(`"exp":%d`, at.Unix()+60), fmt.Sprintf(`"exp":%d`, at.Unix())), attest.ErrMalformed},
		"an unknown role":     {change(`"role":"owner-client"`, `"role":"owner"`), attest.ErrMalformed},
		"a better status":     {change(`"ear_status":"warning","ear_verifier_id"`, `"ear_status":"affirming","ear_verifier_id"`), attest.ErrMalformed},
		"another number":      {change(`"hardware":32`, `"hardware":33`), attest.ErrMalformed},
		"a worse number":      {change(`"hardware":32`, `"hardware":96`), attest.ErrMalformed},
		"one dimension less":  {change(`"hardware":32,`, ``), attest.ErrMalformed},
		"another verifier":    {change(`"developer":"https://github.com/`, `"developer":"https://example.com/`), attest.ErrMalformed},
		"a short nonce":       {change(`"eat_nonce":"BAAA`, `"eat_nonce":"`), attest.ErrMalformed},
		"not accepted, and no status that is known": {forge(t, by, header, unknown.Replace(payload)), attest.ErrMalformed},
		"no status that is known":                   {changeAll(`"ear_status":"warning"`, `"ear_status":"good"`), attest.ErrMalformed},
		"accepted at no status":                     {changeAll(`"ear_status":"warning"`, `"ear_status":"none"`), attest.ErrMalformed},
		"accepted and refused":                      {changeAll(`"ear_status":"warning"`, `"ear_status":"contraindicated"`), attest.ErrMalformed},
		"refused, and no status":                    {forge(t, by, header, refusing.Replace(payload)), attest.ErrMalformed},
		"a dimension that is none":                  {change(`"hardware":32`, `"hardwares":2,"hardware":32`), attest.ErrMalformed},
		"one reason less":                           {change(`"hardware":"because of \u003chardware\u003e",`, ``), attest.ErrMalformed},
		"another's reason":                          {change(`"hardware":"because`, `"hardwares":"because`), attest.ErrMalformed},
		"a long reason":                             {change(`because of `, strings.Repeat("x", 1<<10)), attest.ErrMalformed},
		"many policies":                             {change(`"ear_appraisal_policy_ids":[`, `"ear_appraisal_policy_ids":[`+strings.Repeat(`"x",`, 8)), attest.ErrMalformed},
		"an empty policy":                           {change(`"ear_appraisal_policy_ids":[`, `"ear_appraisal_policy_ids":["",`), attest.ErrMalformed},
		"a long policy":                             {change(`"ear_appraisal_policy_ids":["`, `"ear_appraisal_policy_ids":["`+strings.Repeat("x", 257)), attest.ErrMalformed},
		"a key in capitals":                         {change(`"ak":"000b`, `"ak":"000B`), attest.ErrMalformed},
		"a key that is no hex":                      {change(`"ak":"000b`, `"ak":"00xb`), attest.ErrMalformed},
		"a long key":                                {change(`"ak":"`, `"ak":"`+strings.Repeat("00", 128)), attest.ErrMalformed},
		"a long transparency":                       {change(`"transparency":"`, `"transparency":"`+strings.Repeat("x", 257)), attest.ErrMalformed},
		"many registers":                            {change(`"ak":`, `"differs":["pcr1"`+strings.Repeat(`,"pcr1"`, 24)+`],"ak":`), attest.ErrMalformed},
		"a register that is none":                   {change(`"ak":`, `"differs":["pcr24"],"ak":`), attest.ErrMalformed},
		"a long build":                              {change(`"build":"`, `"build":"`+strings.Repeat("x", 257)), attest.ErrMalformed},
		"a payload of no base64":                    {split[0] + ".!." + split[2], attest.ErrSignature},
		"something behind":                          {forge(t, by, header, payload+" {}"), attest.ErrMalformed},
	} {
		if _, err := ear.Verify(c.token, by.Public(), ear.OwnerClient); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A record of its moment does not expire, and is none before it was made.
func TestRecordsAreCurrent(t *testing.T) {
	c := ear.Issue(ear.Issuer{Role: ear.ControlPlane, At: at}, ear.Subject{}, result())
	if !c.Current(at) || !c.Current(at.AddDate(9, 0, 0)) || c.Current(at.Add(-time.Second)) {
		t.Error("a record is current from when it was issued on")
	}
}

// A result is the word of its signer's role and of no other.
func TestRoleIsTheReaders(t *testing.T) {
	by := key(t, "a")
	token := sign(t, claims(), by)
	for _, role := range []ear.Role{ear.ControlPlane, ear.ThirdParty, ""} {
		if _, err := ear.Verify(token, by.Public(), role); !errors.Is(err, attest.ErrBinding) {
			t.Errorf("read as %q: %v", role, err)
		}
	}
}

func TestKeys(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]crypto.Signer{"P-384": other, "Ed25519": edwards} {
		if _, err := ear.Sign(rand.Reader, claims(), k); !errors.Is(err, attest.ErrPolicy) {
			t.Errorf("signing with %s: %v", name, err)
		}
		if _, err := ear.Verify(sign(t, claims(), key(t, "a")), k.Public(), ear.OwnerClient); !errors.Is(err, attest.ErrPolicy) {
			t.Errorf("reading with %s: %v", name, err)
		}
	}
	if _, err := ear.Verify("", nil, ear.OwnerClient); !errors.Is(err, attest.ErrPolicy) {
		t.Errorf("reading with no key: %v", err)
	}
}

// What a client's sessions rest on is made by the verifier alone: no function
// here returns one, and the client does not link what reads tokens.
func TestClientReadsNoResult(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/toolshed-cloud/shed/attest/client", "github.com/toolshed-cloud/shed/attest/verifier").Output()
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(strings.Fields(string(out)), reflect.TypeFor[ear.Claims]().PkgPath()) {
		t.Error("the client links what reads others' results")
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && returnsResult(fn) {
				t.Errorf("%s makes a token what sessions rest on", fn.Name.Name)
			}
		}
	}
}

func returnsResult(fn *ast.FuncDecl) (found bool) {
	if fn.Type.Results == nil {
		return false
	}
	ast.Inspect(fn.Type.Results, func(n ast.Node) bool {
		named, ok := n.(*ast.SelectorExpr)
		found = found || ok && (named.Sel.Name == "AttestationResult" || named.Sel.Name == "Session")
		return true
	})
	return found
}

func FuzzParse(f *testing.F) {
	_, payload := parts(f, sign(f, claims(), key(f, "a")))
	f.Add(payload)
	f.Fuzz(func(t *testing.T, payload string) {
		c, err := ear.Parse(base64.RawURLEncoding.EncodeToString([]byte(payload)))
		if err != nil {
			if !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		if _, again := parts(t, sign(t, c, key(t, "a"))); again != payload {
			t.Errorf("two spellings of one result")
		}
	})
}
