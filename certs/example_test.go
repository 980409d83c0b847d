package certs_test

import (
	"crypto/rand"
	"fmt"
	"log"
	"strings"
	"time"

	"culvert/certs"
)

// A CA vouches for a server's key under a name. Whoever has the CA's certificate verifies that.
func Example() {
	now := time.Now()
	ca, err := certs.NewCA(rand.Reader, "Example CA", now, now.AddDate(1, 0, 0))
	if err != nil {
		log.Fatal(err)
	}
	key, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	issued, err := ca.Issue(rand.Reader, now, certs.Request{
		PublicKey: key.Public(),
		Names:     []string{"example.com"},
		Expires:   now.AddDate(0, 1, 0),
	})
	if err != nil {
		log.Fatal(err)
	}

	// The other end gets the certificate as JSON, and has the CA's certificate.
	cert, err := certs.ParseCertificate(issued.JSON())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(cert.Verify(certs.VerifyOptions{CA: ca.Certificate()}))
	fmt.Println(cert.VerifyKey(key.Public())) // the key that the peer has proved to hold
	fmt.Println(cert.VerifyHost("www.example.com"))
	fmt.Println(cert.VerifyHost("example.org"))
	later := now.AddDate(0, 2, 0)
	fmt.Println(cert.Verify(certs.VerifyOptions{CA: ca.Certificate(), Now: later}))
	// Output:
	// <nil>
	// <nil>
	// <nil>
	// certificate refused: for other host names
	// certificate refused: expired
}

// A remote admits the keys of a file, each with its restrictions.
func ExampleParseAuthorizedKeys() {
	file := strings.NewReader(`
# key                                      options                   comment
mJ3bq0LZkKzQnwpV5H8yUuqS1xRkPj2cT9aEoYvIhGs allow=*.example.com:443 alice's laptop
`)
	keys, err := certs.ParseAuthorizedKeys(file)
	if err != nil {
		log.Fatal(err)
	}
	for key := range keys.All() {
		fmt.Printf("line %d: %s may reach %v\n", key.Line, key.Comment, key.Allow)
	}
	// Output: line 3: alice's laptop may reach [*.example.com:443]
}
