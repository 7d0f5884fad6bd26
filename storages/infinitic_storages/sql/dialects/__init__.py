"""What differs between the databases. These modules import SQLAlchemy and the drivers."""
