package secureboot

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// keyBits is what every firmware takes: OVMF hashes and verifies larger ones
// too, some machines do not.
const keyBits = 2048

// The names of keys, as those of the variables that hold their certificates.
// Each has a NAME.key, which is nobody else's to read, a NAME.crt and a
// NAME.esl; dbx has a list alone.
const (
	platformKey = "PK"
	exchangeKey = "KEK"
	imageKey    = "db"
	revoked     = "dbx"
)

// Generate makes the keys that are not in the directory yet: PK, KEK and db,
// each with its certificate and signature list. One that is there stays as it
// is, and made names the others. Without a key of its own, a certificate or a
// list that is there is refused, and the error matches os.ErrExist.
func Generate(random io.Reader, dir string) (made []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the keys' directory: %w", err)
	}
	for _, name := range []string{platformKey, exchangeKey, imageKey} {
		there, err := exists(filepath.Join(dir, name+".key"))
		if err != nil {
			return made, fmt.Errorf("looking for key %s: %w", name, err)
		}
		if there {
			continue
		}
		if err := generate(random, dir, name); err != nil {
			return made, fmt.Errorf("making key %s: %w", name, err)
		}
		made = append(made, name)
	}
	return made, nil
}

func exists(name string) (bool, error) {
	_, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// generate writes a key last, so that where it is there, all of it is; where it cannot,
// as on a full disk, nothing of it is left.
func generate(random io.Reader, dir, name string) error {
	key, err := rsa.GenerateKey(random, keyBits)
	if err != nil {
		return err
	}
	certificate, err := certify(key, name)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	var made []string
	for _, f := range []struct {
		suffix string
		mode   os.FileMode
		data   []byte
	}{
		{".crt", 0o644, certificatePEM(certificate)},
		{".esl", 0o644, certificateList(certificate)},
		{".key", 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})},
	} {
		file := filepath.Join(dir, name+f.suffix)
		if err := create(file, f.mode, f.data); err != nil {
			for _, file := range made {
				err = errors.Join(err, os.Remove(file))
			}
			return err
		}
		made = append(made, file)
	}
	return nil
}

// create writes a new file, all of it or nothing, and never an old one.
func create(name string, mode os.FileMode, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// always and never bound a certificate that no firmware looks at the dates of:
// RFC 5280, section 4.1.2.5, has the latter for no expiry.
var (
	always = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	never  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// certify makes the one certificate that follows from a key and its name. What
// is random in signing with RSA only blinds.
func certify(key *rsa.PrivateKey, name string) ([]byte, error) {
	serial := sha256.Sum256(x509.MarshalPKCS1PublicKey(&key.PublicKey))
	template := &x509.Certificate{
		// Positive and of at most 20 bytes (RFC 5280, section 4.1.2.2).
		SerialNumber:          new(big.Int).SetBytes(append([]byte{1}, serial[:15]...)),
		Subject:               pkix.Name{CommonName: "Shed Secure Boot " + name},
		NotBefore:             always,
		NotAfter:              never,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		SignatureAlgorithm:    x509.SHA256WithRSA,
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// maxFile caps a file of the directory.
const maxFile = maxVariable

// Read reads the lists of a directory of keys: PK.esl, KEK.esl, db.esl and,
// where there is one, dbx.esl. Of a db with several certificates db.crt is the one
// that images are signed by. Errors match ErrKeys or are the files'.
func Read(dir string) (*Keys, error) {
	k := new(Keys)
	for _, f := range k.lists() {
		data, err := readCapped(filepath.Join(dir, f.Name))
		if f.Name == revoked+".esl" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading Secure Boot's keys: %w", err)
		}
		*f.into = data
	}
	if all, err := signatures(k.DB); err == nil && len(all) > 1 {
		if k.Vouching, err = readCertificate(filepath.Join(dir, vouchingFile)); err != nil {
			return nil, fmt.Errorf("reading which certificate of db.esl signs: %w", err)
		}
	}
	return k, k.Check()
}

// vouchingFile is PEM, as generate writes it.
const vouchingFile = imageKey + ".crt"

func readCertificate(name string) ([]byte, error) {
	text, err := readCapped(name)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: %s is not one certificate in PEM", ErrKeys, filepath.Base(name))
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKeys, filepath.Base(name), err)
	}
	return block.Bytes, nil
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// File is one list, or the certificate that images are signed by, under the name
// that it has in a directory of keys.
type File struct {
	Name string
	Data []byte
	into *[]byte
}

func (k *Keys) lists() []File {
	return []File{
		{platformKey + ".esl", k.PK, &k.PK}, {exchangeKey + ".esl", k.KEK, &k.KEK},
		{imageKey + ".esl", k.DB, &k.DB}, {revoked + ".esl", k.DBX, &k.DBX},
	}
}

// Files are what Read reads the keys from.
func (k *Keys) Files() (files []File) {
	for _, f := range k.lists() {
		if len(f.Data) > 0 {
			files = append(files, f)
		}
	}
	if k.Vouching != nil {
		files = append(files, File{Name: vouchingFile, Data: certificatePEM(k.Vouching)})
	}
	return files
}

// FileNames are those of all that Files can name.
func FileNames() (names []string) {
	for _, f := range new(Keys).lists() {
		names = append(names, f.Name)
	}
	return append(names, vouchingFile)
}

func readCapped(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrKeys, filepath.Base(name), maxFile)
	}
	return data, nil
}
