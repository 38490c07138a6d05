// Package internetgateway1 has the one name that libp2p uses.
package internetgateway1

// URN_WANConnectionDevice_1 is what would be searched for.
const URN_WANConnectionDevice_1 = "urn:schemas-upnp-org:device:WANConnectionDevice:1"
