// Package fuse is the kernel's side of the drive.
//
// Its one job is to let the Linux kernel use a fs.Tree as a file system: requests in,
// answers out, mount and unmount. It imports the package fs and is the only one that
// imports go-fuse, whose protocol code it uses under a device loop of its own. It never
// keeps state of files, never touches the mounted tree through the kernel (the process
// would wait for itself), and never lets a request wait without a deadline.
package fuse
