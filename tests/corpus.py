"""Six documents about six things: enough to tell a right passage from a wrong one."""

from bakeoff.records import Document

CORPUS = (
    Document("parking", "Parking", "Parking behind the hotel costs 10 pounds per night."),
    Document("pets", "Pets", "Dogs and cats may stay in the garden rooms free of charge."),
    Document("breakfast", "Breakfast", "Breakfast is served from 7:00 to 10:30 in the winter garden."),
    Document("wifi", "Internet", "The wireless network is free and reaches every room."),
    Document("pool", "Swimming pool", "The pool is closed from October to April."),
    Document("taxi", "Taxi", "A taxi to the railway station takes ten minutes."),
)
