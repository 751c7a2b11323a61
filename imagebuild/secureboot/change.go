package secureboot

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/toolshed-cloud/shed/attest"
)

// Change is what makes one set of keys of another: one variable, since a machine
// writes one after another and may stop in between.
type Change struct {
	// Variable is "db" or "dbx", and Data what it is to be.
	Variable string
	Data     []byte
	// Adds and Removes are its entries that are new, and those that are gone, in
	// ascending order.
	Adds, Removes []attest.Digest
}

// ChangeOf is how the keys become others. Errors match ErrKeys: where PK, KEK or
// both lists differ, or none, and where dbx would be emptied.
func (k *Keys) ChangeOf(after *Keys) (Change, error) {
	none := Change{}
	if !bytes.Equal(k.PK, after.PK) || !bytes.Equal(k.KEK, after.KEK) {
		return none, fmt.Errorf("%w: PK or KEK is another, and a machine that runs keeps its own", ErrKeys)
	}
	db, dbx := !bytes.Equal(k.DB, after.DB), !bytes.Equal(k.DBX, after.DBX)
	switch {
	case db && dbx:
		return none, fmt.Errorf("%w: both db and dbx are others: a release changes one, and the next the other", ErrKeys)
	case db:
		return changeOf(imageKey, k.DB, after.DB)
	case dbx && len(after.DBX) == 0:
		return none, fmt.Errorf("%w: dbx would be emptied", ErrKeys)
	case dbx:
		return changeOf(revoked, k.DBX, after.DBX)
	}
	return none, fmt.Errorf("%w: db and dbx are the same before and after", ErrKeys)
}

func changeOf(variable string, from, to []byte) (Change, error) {
	had, err := digestsOf(from)
	if err != nil {
		return Change{}, fmt.Errorf("%s before: %w", variable, err)
	}
	has, err := digestsOf(to)
	if err != nil {
		return Change{}, fmt.Errorf("%s: %w", variable, err)
	}
	return Change{Variable: variable, Data: to, Adds: without(has, had), Removes: without(had, has)}, nil
}

func digestsOf(lists []byte) (all []attest.Digest, err error) {
	entries, err := signatures(lists)
	for _, s := range entries {
		all = append(all, s.digest())
	}
	slices.SortFunc(all, func(a, b attest.Digest) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(all), err
}

func without(all, others []attest.Digest) (left []attest.Digest) {
	for _, d := range all {
		if !slices.Contains(others, d) {
			left = append(left, d)
		}
	}
	return left
}

// Revokes says that dbx has an image's hash. Errors match ErrKeys.
func (k *Keys) Revokes(hash attest.Digest) (bool, error) {
	all, err := digestsOf(k.DBX)
	return slices.Contains(all, hash), err
}

// Exchange signs changes of db and dbx.
type Exchange struct {
	key         *rsa.PrivateKey
	certificate *x509.Certificate
	keys        *Keys
}

// ReadExchange reads KEK.key of a directory of keys, and the lists there. Errors
// match ErrKeys or are the files'.
func ReadExchange(dir string) (*Exchange, error) {
	keys, err := Read(dir)
	if err != nil {
		return nil, err
	}
	entry, err := onlySignature(keys.KEK)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(entry[len(owner):])
	if err != nil {
		return nil, fmt.Errorf("%w: KEK: %w", ErrKeys, err)
	}
	key, err := readKey(dir, exchangeKey, certificate)
	if err != nil {
		return nil, err
	}
	return &Exchange{key: key, certificate: certificate, keys: keys}, nil
}

// Contents is what the keys have a variable be.
func (x *Exchange) Contents(variable string) []byte {
	if variable == imageKey {
		return x.keys.DB
	}
	return x.keys.DBX
}

// The head of an authenticated write: WIN_CERTIFICATE_UEFI_GUID (UEFI specification
// 2.10, section 32.2.4) with EFI_CERT_TYPE_PKCS7_GUID.
const (
	certificateRevision = 0x0200
	certificateGUID     = 0x0ef1
	certificateHead     = 4 + 2 + 2 + 16
)

var typePKCS7 = guid{0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49, 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7}

// Write is what firmware takes for the keys' contents of a variable from whoever
// hands it over: EFI_VARIABLE_AUTHENTICATION_2 and the contents (section 8.2.2). Its
// time is no clock's but follows from the release's epoch, which therefore has to
// rise with each change: firmware takes none that is not later than the last.
// Errors match ErrKeys.
func (x *Exchange) Write(variable string, epoch uint64) ([]byte, error) {
	if variable != imageKey && variable != revoked {
		return nil, fmt.Errorf("%w: %q is neither db nor dbx", ErrKeys, variable)
	}
	if epoch > maxTimedEpoch {
		return nil, fmt.Errorf("%w: no time follows from epoch %d", ErrKeys, epoch)
	}
	at, data := efiTime(always.Add(time.Duration(epoch)*time.Second)), x.Contents(variable)
	proof, err := x.sign(signedPart(variable, at, data))
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint32(at, uint32(certificateHead+len(proof)))
	b = binary.LittleEndian.AppendUint16(b, certificateRevision)
	b = binary.LittleEndian.AppendUint16(b, certificateGUID)
	b = append(append(b, typePKCS7[:]...), proof...)
	return append(b, data...), nil
}

// maxTimedEpoch keeps times within what a time.Duration and a year have room for.
const maxTimedEpoch = 1 << 32

// efiTime is EFI_TIME, of which a variable's write leaves all but these at zero.
func efiTime(t time.Time) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(t.Year()))
	b = append(b, byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()))
	return append(b, make([]byte, 16-len(b))...)
}

// signedPart is what the signature is of: the name without its end, namespace,
// attributes, time and contents.
func signedPart(variable string, at, data []byte) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(variable)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	b = append(b, ImageSecurity[:]...)
	b = binary.LittleEndian.AppendUint32(b, nonVolatile|bootService|runtime|authenticated)
	return append(append(b, at...), data...)
}

// sign is PKCS #7 SignedData (RFC 2315, section 9.1) of something that stands
// elsewhere, without attributes, and without the ContentInfo around it: EDK II looks
// for the digest's algorithm where it is then.
func (x *Exchange) sign(content []byte) ([]byte, error) {
	digest := sha256.Sum256(content)
	signed, err := rsa.SignPKCS1v15(rand.Reader, x.key, crypto.SHA256, digest[:])
	if err != nil {
		return nil, fmt.Errorf("signing a change of Secure Boot's variables: %w", err)
	}
	return build(func(b *cryptobyte.Builder) {
		sequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(1)
			b.AddASN1(tags.SET, func(b *cryptobyte.Builder) { algorithm(b, oidSHA256) })
			sequence(b, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidData) })
			b.AddASN1(context0Nested, func(b *cryptobyte.Builder) { b.AddBytes(x.certificate.Raw) })
			b.AddASN1(tags.SET, func(b *cryptobyte.Builder) { signerInfo(b, x.certificate, nil, signed) })
		})
	})
}
