package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// How long certificates are valid: longer than any run.
const validity = 7 * 24 * time.Hour

// An authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	// Folder of the files, NAME.crt and NAME.key for each certificate.
	folder string
}

// newAuthority makes an authority and writes its files.
func newAuthority(folder, name string) (*authority, error) {
	made := &authority{folder: folder}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	var err error
	if made.certificate, made.key, err = made.sign(template, name); err != nil {
		return nil, err
	}
	return made, nil
}

// load reads an authority that was written before.
func (authority *authority) load(name string) error {
	pair, err := tls.LoadX509KeyPair(filepath.Join(authority.folder, name+".crt"), filepath.Join(authority.folder, name+".key"))
	if err != nil {
		return err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("%s has a key of another kind", name)
	}
	authority.certificate, authority.key = pair.Leaf, key
	return nil
}

// client writes a certificate that a client shows: Kubernetes takes the name and the groups from its subject.
func (authority *authority) client(file, name string, groups ...string) error {
	_, _, err := authority.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name, Organization: groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, file)
	return err
}

// server writes a certificate of a server with these names and addresses.
func (authority *authority) server(file string, names []string, addresses ...net.IP) error {
	_, _, err := authority.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: names[0]},
		DNSNames:    names,
		IPAddresses: addresses,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, file)
	return err
}

// sign completes and signs a certificate, and writes it and its key. An authority without a certificate signs its own.
func (authority *authority) sign(template *x509.Certificate, file string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(validity)
	parent, signer := authority.certificate, authority.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, fmt.Errorf("sign %s: %w", file, err)
	}
	if err := writePem(filepath.Join(authority.folder, file+".crt"), "CERTIFICATE", der); err != nil {
		return nil, nil, err
	}
	if err := writeKey(filepath.Join(authority.folder, file+".key"), key); err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return certificate, key, err
}

// writeServiceAccountKeys writes the keys that sign and check the tokens of service accounts.
func writeServiceAccountKeys(folder string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := writePem(filepath.Join(folder, "service-accounts.pub"), "PUBLIC KEY", public); err != nil {
		return err
	}
	return writeKey(filepath.Join(folder, "service-accounts.key"), key)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePem(path, "EC PRIVATE KEY", der)
}

func writePem(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// writeKubeconfig writes the file by which a part finds the API server and shows its certificate.
func writeKubeconfig(path, server, certificates, user string) error {
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
  - { name: local, cluster: { server: "%s", certificate-authority: "%s/ca.crt" } }
users:
  - { name: %[3]s, user: { client-certificate: "%[2]s/%[3]s.crt", client-key: "%[2]s/%[3]s.key" } }
contexts:
  - { name: local, context: { cluster: local, user: %[3]s } }
current-context: local
`, server, certificates, user)
	return os.WriteFile(path, []byte(text), 0o600)
}
