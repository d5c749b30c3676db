"""Sockets: endpoints, ports, transports and the epoll lane."""
